"""How fast this machine reads memory: the ceiling of every decode step.

Compiles a small C++ program that reads a buffer larger than the last-level cache with 1 to W
threads, and prints the median and best GB/s (10^9 bytes a second) of several sweeps.

    python benchmarks/bandwidth.py --megabytes 1000 --threads 2
"""

import argparse
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

SOURCE = r"""
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>
#include <sys/mman.h>

typedef uint64_t lanes __attribute__((vector_size(64)));

static uint64_t sweep(const lanes* data, size_t count) {
    lanes a{}, b{}, c{}, d{};
    for (size_t i = 0; i + 4 <= count; i += 4) {
        a += data[i]; b += data[i + 1]; c += data[i + 2]; d += data[i + 3];
    }
    a += b + c + d;
    uint64_t sum = 0;
    for (int i = 0; i < 8; ++i) sum += a[i];
    return sum;
}

int main(int, char** argv) {
    const size_t bytes = std::strtoull(argv[1], nullptr, 10);
    const int threads = std::atoi(argv[2]), sweeps = std::atoi(argv[3]);
    const size_t slice = bytes / threads / 4096 * 4096;
    const size_t page = 2 << 20, whole = (slice * threads + page - 1) / page * page;
    char* buffer = static_cast<char*>(std::aligned_alloc(page, whole));
    if (!buffer) return 1;
#ifdef MADV_HUGEPAGE
    madvise(buffer, whole, MADV_HUGEPAGE);  // as an artifact's weights are mapped
#endif
    std::atomic<int> ready{0};
    std::atomic<uint64_t> sink{0};
    std::vector<double> begin(threads * sweeps), end(threads * sweeps);
    auto now = [] {
        return std::chrono::duration<double>(
            std::chrono::steady_clock::now().time_since_epoch()).count();
    };
    auto work = [&](int self) {
        auto* mine = reinterpret_cast<uint64_t*>(buffer + slice * self);
        for (size_t i = 0; i < slice / 8; ++i) mine[i] = i;  // first touch by the reader
        for (int s = 0; s < sweeps; ++s) {
            ++ready;
            while (ready.load() < (s + 1) * threads) std::this_thread::yield();
            begin[s * threads + self] = now();
            sink += sweep(reinterpret_cast<lanes*>(mine), slice / 64);
            end[s * threads + self] = now();
        }
    };
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
    work(0);
    for (auto& thread : others) thread.join();
    for (int s = 0; s < sweeps; ++s) {
        double first = begin[s * threads], last = end[s * threads];
        for (int t = 1; t < threads; ++t) {
            first = first < begin[s * threads + t] ? first : begin[s * threads + t];
            last = last > end[s * threads + t] ? last : end[s * threads + t];
        }
        std::printf("%.6f\n", slice * threads / (last - first) / 1e9);
    }
    return sink.load() == 42;  // keeps the sums alive
}
"""


@dataclass(frozen=True)
class Bandwidth:
    """Read bandwidth of one thread count, in GB/s, of each sweep."""

    threads: int
    sweeps: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.sweeps)

    @property
    def best(self) -> float:
        return max(self.sweeps)


class BandwidthProgram:
    """The compiled reader; usable again and again within a `with` block."""

    def __enter__(self) -> "BandwidthProgram":
        self._folder = tempfile.TemporaryDirectory(prefix="bandwidth-")
        source = Path(self._folder.name) / "bandwidth.cpp"
        self._binary = source.with_suffix("")
        source.write_text(SOURCE)
        compiler = os.environ.get("CXX", "c++")
        flags = ["-O3", "-march=native", "-std=c++17", "-Wno-psabi", "-pthread"]
        subprocess.run([compiler, *flags, str(source), "-o", str(self._binary)], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def measure(self, megabytes: int, threads: int, sweeps: int = 7) -> Bandwidth:
        """Reads `megabytes` (10^6 bytes) `sweeps` times with `threads` threads."""
        arguments = [str(megabytes * 10**6), str(threads), str(sweeps)]
        run = subprocess.run(
            [str(self._binary), *arguments], check=True, capture_output=True, text=True
        )
        return Bandwidth(threads, tuple(map(float, run.stdout.split())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000, help="buffer size [%(default)s]")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sweeps", type=int, default=9)
    options = parser.parse_args()
    with BandwidthProgram() as program:
        for threads in range(1, options.threads + 1):
            found = program.measure(options.megabytes, threads, options.sweeps)
            print(f"{threads} threads: median {found.median:.1f} GB/s, best {found.best:.1f} GB/s")


if __name__ == "__main__":
    main()
