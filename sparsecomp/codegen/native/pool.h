// A persistent pool of workers and their barrier: spin first, then sleep.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace sc {

inline void cpu_relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb");
#endif
}

// A counter that threads wait on. A waiter spins for `spin`, then sleeps until the next advance.
class Epoch {
  public:
    uint32_t value() const { return count_.load(std::memory_order_acquire); }

    void advance() {
        count_.fetch_add(1);  // sequentially consistent, as is sleepers_: one side sees the other
        if (sleepers_.load() == 0) return;
        { std::lock_guard<std::mutex> hold(mutex_); }
        wake_.notify_all();
    }

    void wait_past(uint32_t seen, std::chrono::nanoseconds spin) {
        if (spin.count() > 0) {
            auto give_up = std::chrono::steady_clock::now() + spin;
            do {
                for (int i = 0; i < 32; ++i) {
                    if (value() != seen) return;
                    cpu_relax();
                }
                // Whoever is waited for may be queued behind this very thread.
                std::this_thread::yield();
            } while (std::chrono::steady_clock::now() < give_up);
        }
        sleepers_.fetch_add(1);
        std::unique_lock<std::mutex> hold(mutex_);
        wake_.wait(hold, [&] { return count_.load() != seen; });
        sleepers_.fetch_sub(1);
    }

  private:
    alignas(64) std::atomic<uint32_t> count_{0};
    alignas(64) std::atomic<uint32_t> sleepers_{0};
    std::mutex mutex_;
    std::condition_variable wake_;
};

// How many units of a kernel have been handed out.
struct alignas(64) Queue {
    std::atomic<int64_t> taken{0};
};

// A worker's turns at a queue of `units`: each takes the next `at_once`, first..end.
class Turns {
  public:
    Turns(Queue& queue, int64_t at_once, int64_t units)
        : queue_(queue), at_once_(at_once), units_(units) {}

    bool take() {
        first = queue_.taken.fetch_add(at_once_, std::memory_order_relaxed);
        end = first + at_once_ < units_ ? first + at_once_ : units_;
        return first < units_;
    }

    int64_t first = 0, end = 0;

  private:
    Queue& queue_;
    const int64_t at_once_, units_;
};

// `workers` threads counting the caller, which is worker 0. One run at a time.
class Pool {
  public:
    using Task = void (*)(void* context, int worker);

    // Throws std::system_error when a thread cannot be started.
    explicit Pool(int workers) : workers_(workers) {
        // Spinning where threads outnumber cores only keeps the others from running.
        if (static_cast<unsigned>(workers) > std::thread::hardware_concurrency()) spin_ = {};
        try {
            for (int w = 1; w < workers; ++w) threads_.emplace_back([this, w] { serve(w); });
        } catch (...) {
            stop();
            throw;
        }
    }
    ~Pool() { stop(); }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int workers() const { return workers_; }

    // task(context, worker) on every worker; returns when all have finished.
    void run(Task task, void* context) {
        task_ = task;
        context_ = context;
        started_.advance();
        task(context, 0);
        barrier();
    }

    // Inside a task: returns when every worker has called it as often.
    void barrier() {
        barrier([] { return false; });
    }

    // The same. Who waits calls meanwhile() as long as that finds something to do.
    template <class Work>
    void barrier(Work meanwhile) {
        uint32_t seen = released_.value();
        if (arrived_.fetch_add(1) + 1 == workers_) {
            arrived_.store(0, std::memory_order_relaxed);
            released_.advance();
        } else {
            while (released_.value() == seen && meanwhile()) {
            }
            released_.wait_past(seen, spin_);
        }
    }

  private:
    void serve(int worker) {
        for (uint32_t seen = 0;; ++seen) {
            started_.wait_past(seen, spin_);
            if (task_ == nullptr) return;
            task_(context_, worker);
            barrier();
        }
    }

    void stop() {
        task_ = nullptr;
        started_.advance();
        for (std::thread& t : threads_) t.join();
    }

    const int workers_;
    std::chrono::nanoseconds spin_ = std::chrono::microseconds(200);
    Task task_ = nullptr;
    void* context_ = nullptr;
    alignas(64) std::atomic<int> arrived_{0};
    Epoch started_;
    Epoch released_;
    std::vector<std::thread> threads_;
};

}  // namespace sc
