// Times the native kernels; kernels.py compiles it with -DWORKERS=n and runs it.
// One line a figure: name <tab> value <tab> unit <tab> share of the limit measured beside it, in
// percent <tab> that limit; the last two are empty where there is none.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "attention.h"
#include "mlp.h"
#include "pool.h"
#include "select.h"
#include "sparse_linear.h"

using namespace sc;

static constexpr int64_t BYTES = 270 << 20;
static Pool pool(WORKERS);
static const auto* buffer = [] {
    auto* p = static_cast<uint16_t*>(std::aligned_alloc(4096, BYTES));
    for (int64_t i = 0; i < BYTES / 2; ++i)  // bf16 near +-0.01
        p[i] = static_cast<uint16_t>(0x3c00 + (i * 40503 >> 7) % 64 + ((i & 4) << 13));
    return reinterpret_cast<const bf16*>(p);
}();

static double now() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// f(worker) on all workers; seconds.
template <class F>
static double time_on_all(F f) {
    double start = now();
    pool.run([](void* c, int worker) { (*static_cast<F*>(c))(worker); }, &f);
    return now() - start;
}

static double median(std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
    return v[v.size() / 2];
}

// One worker's share of the buffer, summed with nothing else in the loop.
static volatile uint32_t sink;
static void read_share(int worker) {
    const char* p = reinterpret_cast<const char*>(buffer) + BYTES / WORKERS * worker;
    vu sum[4] = {};
    for (int64_t i = 0; i < BYTES / WORKERS; i += 4 * sizeof(vu))
        for (int j = 0; j < 4; ++j) {
            vu x;
            std::memcpy(&x, p + i + j * sizeof(vu), sizeof x);
            sum[j] ^= x;
        }
    vu all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
    sink = all[0] ^ all[LANES - 1];
}

// The kernel and a plain read of as many bytes, alternating.
template <class F>
static void against_read(const char* name, int64_t bytes, F kernel) {
    std::vector<double> ratio, rate;
    for (int i = 0; i < 25; ++i) {
        double read = time_on_all(read_share) / BYTES;
        double took = time_on_all(kernel) / bytes;
        ratio.push_back(read / took);
        rate.push_back(1e-9 / took);
    }
    std::printf("%s\t%.1f\tGB/s\t%.0f\treading\n", name, median(rate), 100 * median(ratio));
}

static float* floats(int64_t n) {
    auto* p = static_cast<float*>(std::aligned_alloc(64, round_up(n, 16) * sizeof(float)));
    for (int64_t i = 0; i < n; ++i) p[i] = static_cast<float>(i * 37 % 101 - 50) / 50;
    return p;
}

// K activations as the decode kernels over T read them.
template <class T, int K>
static float* activations() {
    float* x = floats(K);
    if constexpr (!is_quantized<T>) return x;
    float* packed = floats(round_up(K, 64));
    pack_input<K>(packed, x);
    return packed;
}

template <class T, int K>
static void linear_decode(const char* name) {
    constexpr int64_t N = (BYTES - 64) / row_bytes<T, K>();
    static float *x = activations<T, K>(), *y = floats(N);
    against_read(name, N * row_bytes<T, K>(), [](int w) {
        linear_rows<T, K>(y, x, matrix<T, K>(buffer, N), nullptr, N * w / WORKERS,
                          N * (w + 1) / WORKERS);
    });
}

template <class T, bool GATED, int K>
static void mlp_decode(const char* name) {
    constexpr int64_t EACH = (GATED ? 3 : 2) * row_bytes<T, K>(), N = (BYTES - 64) / EACH;
    static float *x = activations<T, K>(), *out = floats(WORKERS * round_up(K, 16));
    against_read(name, N * EACH, [](int w) {
        mlp_neurons<T, Act::silu, GATED, K, K>(
            out + w * round_up(K, 16), x, neurons<T, GATED, K, K>(buffer, N), nullptr, nullptr,
            N * w / WORKERS, N * (w + 1) / WORKERS);
    });
}

// A random share of the neurons, all of them active: what is read is what is listed.
template <Act A, bool GATED, int K>
static void mlp_sparse(const char* name) {
    constexpr int64_t STRIDE = Neurons<bf16, GATED, K, K>::STRIDE, N = BYTES / 2 / STRIDE;
    static float *x = floats(K), *out = floats(WORKERS * round_up(K, 16)), *bias = floats(N);
    static std::vector<int32_t> list;
    for (int64_t i = 0; i < N; ++i) bias[i] = 100.0f;
    for (int percent : {5, 10, 20, 30, 50, 75, 100}) {
        list.clear();
        uint32_t random = 1;
        for (int32_t i = 0; i < N; ++i) {
            random = random * 1664525u + 1013904223u;
            if ((random >> 8) % 100 < static_cast<uint32_t>(percent)) list.push_back(i);
        }
        char title[80];
        std::snprintf(title, sizeof title, "%s, %d %% listed", name, percent);
        against_read(title, static_cast<int64_t>(list.size()) * STRIDE * 2, [](int w) {
            const auto count = static_cast<int64_t>(list.size());
            mlp_listed<bf16, A, GATED, Known::nothing, K, K>(
                out + w * round_up(K, 16), x, neurons<bf16, GATED, K, K>(buffer, N), bias, bias,
                list.data(), nullptr, listed_begin(count, w, WORKERS),
                listed_begin(count, w + 1, WORKERS));
        });
    }
}

template <int K>
static void packing(const char* name) {
    constexpr int COUNT = 2000;
    static float *x = floats(K), *packed = floats(round_up(K, 64));
    std::vector<double> each;
    for (int i = 0; i < 25; ++i) {
        double start = now();
        for (int j = 0; j < COUNT; ++j) pack_input<K>(packed, x);
        each.push_back((now() - start) / COUNT);
        sink = static_cast<uint32_t>(packed[0]);
    }
    std::printf("%s\t%.2f\tus\t\t\n", name, 1e6 * median(each));
}

// One worker's list of N neurons, a tenth of them chosen.
template <int N>
static void selection(const char* name) {
    constexpr int COUNT = 200;
    static float* x = floats(N);
    static std::vector<int32_t> list(1 + N);
    std::vector<double> above, best;
    for (int i = 0; i < 25; ++i) {
        double start = now();
        for (int j = 0; j < COUNT; ++j) select_above<false, N>(list.data(), x, nullptr, 0.79f);
        double middle = now();
        for (int j = 0; j < COUNT; ++j) select_best<false, N, 128, 13>(list.data(), x, nullptr);
        above.push_back((middle - start) / COUNT);
        best.push_back((now() - middle) / COUNT);
    }
    std::printf("select_above %s\t%.2f\tus\t\t\n", name, 1e6 * median(above));
    std::printf("select_best %s, groups of 128\t%.2f\tus\t\t\n", name, 1e6 * median(best));
}

template <int H, int KVH, int D>
static void attention_decode(const char* name) {
    constexpr int64_t CONTEXT = 2048, LAYER = KVH * CONTEXT * D, LAYERS = BYTES / 4 / LAYER;
    static constexpr int64_t PART = attention_part_size<H, D>();
    static float *q = floats(H * D), *parts = floats(WORKERS * PART);
    against_read(name, LAYERS * LAYER * 4, [](int w) {
        for (int64_t l = 0; l < LAYERS; ++l)
            attention_partial<bf16, H, KVH, D, D>(
                parts + w * PART, q, buffer + 2 * l * LAYER, buffer + (2 * l + 1) * LAYER,
                CONTEXT * w / WORKERS, CONTEXT * (w + 1) / WORKERS, CONTEXT, 0.125f, 0.0f, nullptr,
                CONTEXT - 1);
    });
}

// Half of H heads, chosen at random for each of `layers` layers: lists one after another.
template <int H>
static std::vector<int32_t> half_of_heads(int64_t layers) {
    std::vector<int32_t> lists(layers * (H + 1));
    uint32_t state = 1;
    for (int64_t l = 0; l < layers; ++l) {
        int32_t *list = &lists[l * (H + 1)], left = H / 2;
        for (int32_t h = 0; h < H; ++h) {
            state = state * 1664525 + 1013904223;
            if (state >> 8 < (1u << 24) / (H - h) * left) list[1 + list[0]++] = h, --left;
        }
    }
    return lists;
}

// A kernel over half of the heads and the dense one over all, alternating: bytes over time beside a
// plain read, and the time it takes of the dense one's.
template <class Sparse, class Dense>
static void against_dense(const char* name, int64_t bytes, Sparse sparse, Dense dense) {
    against_read(name, bytes, sparse);
    std::vector<double> share;
    for (int i = 0; i < 25; ++i) {
        double took = time_on_all(sparse);
        share.push_back(took / time_on_all(dense));
    }
    std::printf("  its time beside all heads\t%.2f\tx\t\t\n", median(share));
}

// The query and the output projection of H heads of E, K wide.
template <int H, int E, int K>
static void heads_decode(const char* queries, const char* outputs) {
    constexpr int64_t LAYER = H * E * K, LAYERS = BYTES / 2 / LAYER;
    static const auto lists = half_of_heads<H>(LAYERS);
    static float *x = floats(max(K, H * E)), *y = floats(WORKERS * round_up(max(K, H * E), 16));
    static const auto list = [](int64_t l) { return &lists[l * (H + 1)]; };
    static const auto rows = matrix<bf16, K>(buffer, LAYERS * H * E);
    static const auto by_column = columns<bf16, K>(buffer, LAYERS * H * E);
    static const auto whole = matrix<bf16, H * E>(buffer, LAYERS * K);
    int64_t bytes = LAYERS * LAYER * 2 / H * (H / 2);
    against_dense(
        queries, bytes,
        [](int w) {
            for (int64_t l = 0; l < LAYERS; ++l)
                linear_listed_rows<bf16, K, E, H>(y, x, rows.from(l * H * E), nullptr, list(l),
                                                  E * w / WORKERS, E * (w + 1) / WORKERS);
        },
        [](int w) {
            for (int64_t l = 0; l < LAYERS; ++l)
                linear_rows<bf16, K>(y, x, rows.from(l * H * E), nullptr, H * E * w / WORKERS,
                                     H * E * (w + 1) / WORKERS);
        });
    against_dense(
        outputs, bytes,
        [](int w) {
            for (int64_t l = 0; l < LAYERS; ++l)
                linear_listed_columns<bf16, K, E>(y + w * round_up(K, 16), x,
                                                  by_column.from(l * H * E), list(l),
                                                  E * w / WORKERS, E * (w + 1) / WORKERS);
        },
        [](int w) {
            for (int64_t l = 0; l < LAYERS; ++l)
                linear_rows<bf16, H * E>(y, x, whole.from(l * K), nullptr, K * w / WORKERS,
                                         K * (w + 1) / WORKERS);
        });
}

// Half of the heads; of grouped heads, those of half of the groups.
template <int H, int KVH, int D>
static void listed_attention_decode(const char* name) {
    constexpr int64_t CONTEXT = 2048, LAYER = KVH * CONTEXT * D, LAYERS = BYTES / 4 / LAYER;
    static constexpr int64_t PART = attention_part_size<H, D>();
    static float *q = floats(H * D), *parts = floats(WORKERS * PART);
    static const auto groups = half_of_heads<KVH>(LAYERS);
    static int32_t lists[LAYERS][H + 1];
    int64_t read = 0;
    for (int64_t l = 0; l < LAYERS; ++l)
        for (int32_t i = 1; i <= groups[l * (KVH + 1)]; ++i, ++read)
            lists[l][++lists[l][0]] = groups[l * (KVH + 1) + i] * (H / KVH);
    against_dense(
        name, read * CONTEXT * D * 4,
        [](int w) {
            for (int64_t l = 0; l < LAYERS; ++l)
                attention_partial_listed<bf16, H, KVH, D, D>(
                    parts + w * PART, lists[l], q, buffer + 2 * l * LAYER,
                    buffer + (2 * l + 1) * LAYER, CONTEXT * w / WORKERS,
                    CONTEXT * (w + 1) / WORKERS, CONTEXT, 0.125f, 0.0f, nullptr, CONTEXT - 1);
        },
        [](int w) {
            for (int64_t l = 0; l < LAYERS; ++l)
                attention_partial<bf16, H, KVH, D, D>(
                    parts + w * PART, q, buffer + 2 * l * LAYER, buffer + (2 * l + 1) * LAYER,
                    CONTEXT * w / WORKERS, CONTEXT * (w + 1) / WORKERS, CONTEXT, 0.125f, 0.0f,
                    nullptr, CONTEXT - 1);
        });
}

// Independent multiply-adds in registers: what a core can do; returns the operations done.
static double peak_flops() {
    constexpr int CHAINS = LANES == 8 ? 12 : 24, ROUNDS = 20000;
    vf acc[CHAINS], a = splat(1.0f + sink * 1e-12f), b = splat(1.0f + sink * 1e-12f);
    for (int j = 0; j < CHAINS; ++j) acc[j] = splat(static_cast<float>(j));
    for (int i = 0; i < ROUNDS; ++i)
#pragma GCC unroll 24
        for (int j = 0; j < CHAINS; ++j) acc[j] = acc[j] * b + a;
    vf all{};
    for (int j = 0; j < CHAINS; ++j) all += acc[j];
    sink = static_cast<uint32_t>(hsum(all));
    return 2.0 * LANES * CHAINS * ROUNDS;
}

// The kernel (doing `flops` operations) and the multiply-add loop, alternating, on one core.
template <class F>
static void against_peak(const char* name, double flops, F kernel) {
    std::vector<double> ratio, rate;
    for (int i = 0; i < 15; ++i) {
        double start = now();
        double peak = peak_flops() / (now() - start);
        start = now();
        kernel();
        double reached = flops / (now() - start);
        ratio.push_back(reached / peak);
        rate.push_back(reached * 1e-9);
    }
    std::printf("%s\t%.1f\tGFLOP/s\t%.0f\tmultiply-adds\n", name, median(rate),
                100 * median(ratio));
}

template <class T, int K, int N, int M>
static void linear_prefill(const char* name) {
    float *x = floats(512 * K), *y = floats(512 * N);
    against_peak(name, 2.0 * 512 * K * N, [&] {
        for (int i = 0; i < 512; i += M)
            linear_tile<T, K>(y + i * N, N, x + i * K, K, matrix<T, K>(buffer, N), nullptr, M, 0,
                              N);
    });
}

template <int K, int N, int M>
static void mlp_prefill(const char* name) {
    float *x = floats(512 * K), *y = floats(512 * K);
    against_peak(name, 2.0 * 3 * 512 * K * N, [&] {
        for (int i = 0; i < 512; i += M)
            mlp_tile<bf16, Act::silu, true, K, K>(y + i * K, K, x + i * K, K,
                                                  neurons<bf16, true, K, K>(buffer, N), nullptr,
                                                  nullptr, M, 0, N);
    });
}

template <int H, int KVH, int D>
static void attention_prefill(const char* name) {
    constexpr int64_t CONTEXT = 2048, M = 64;
    float *q = floats(M * H * D), *y = floats(M * H * D);
    against_peak(name, 4.0 * M * H * D * (CONTEXT - M / 2), [&] {
        attention_tile<bf16, H, KVH, D, D>(y, H * D, q, H * D, buffer, buffer + CONTEXT * KVH * D,
                                           CONTEXT - M, M, CONTEXT, 0, 0, 0.125f, 0.0f, nullptr,
                                           nullptr);
    });
}

static void barriers() {
    constexpr int COUNT = 20000;
    std::vector<double> each;
    for (int i = 0; i < 11; ++i)
        each.push_back(1e9 / COUNT * time_on_all([](int) {
            for (int j = 0; j < COUNT; ++j) pool.barrier();
        }));
    std::printf("barrier\t%.0f\tns\t\t\n", median(each));
}

int main() {
    barriers();
    linear_decode<bf16, 576>("linear_rows K=576");
    linear_decode<bf16, 1536>("linear_rows K=1536");
    linear_decode<bf16, 4096>("linear_rows K=4096");
    linear_decode<int8, 576>("linear_rows int8 K=576");
    linear_decode<int8, 4096>("linear_rows int8 K=4096");
    linear_decode<int4, 576>("linear_rows int4 K=576");
    linear_decode<int4, 4096>("linear_rows int4 K=4096");
    mlp_decode<bf16, true, 576>("mlp_neurons gated K=576");
    mlp_decode<bf16, true, 2048>("mlp_neurons gated K=2048");
    mlp_decode<bf16, false, 2048>("mlp_neurons plain K=2048");
    mlp_decode<int8, true, 576>("mlp_neurons int8 gated K=576");
    mlp_decode<int8, true, 2048>("mlp_neurons int8 gated K=2048");
    mlp_decode<int4, true, 576>("mlp_neurons int4 gated K=576");
    mlp_decode<int4, true, 2048>("mlp_neurons int4 gated K=2048");
    packing<576>("pack_input K=576");
    mlp_sparse<Act::relu, false, 2048>("mlp_listed relu K=2048");
    mlp_sparse<Act::relu, false, 384>("mlp_listed relu K=384");
    mlp_sparse<Act::silu, true, 576>("mlp_listed silu gated K=576");
    selection<1536>("N=1536");
    selection<8192>("N=8192");
    attention_decode<9, 3, 64>("attention_partial 9/3 heads of 64");
    attention_decode<32, 8, 128>("attention_partial 32/8 heads of 128");
    heads_decode<6, 64, 384>("queries of 3 of 6 heads, K=384", "output of 3 of 6 heads, K=384");
    heads_decode<9, 64, 576>("queries of 4 of 9 heads, K=576", "output of 4 of 9 heads, K=576");
    heads_decode<32, 64, 2048>("queries of 16 of 32 heads, K=2048",
                               "output of 16 of 32 heads, K=2048");
    listed_attention_decode<6, 6, 64>("attention_partial 3 of 6 heads of 64");
    listed_attention_decode<9, 3, 64>("attention_partial 1 of 3 groups of 64");
    listed_attention_decode<32, 32, 64>("attention_partial 16 of 32 heads of 64");
    linear_prefill<bf16, 576, 1536, 32>("linear_tile K=576 N=1536 rows=32");
    linear_prefill<bf16, 576, 1536, 64>("linear_tile K=576 N=1536 rows=64");
    linear_prefill<int8, 576, 1536, 64>("linear_tile int8 K=576 N=1536 rows=64");
    linear_prefill<bf16, 2048, 2048, 64>("linear_tile K=2048 N=2048 rows=64");
    mlp_prefill<576, 1536, 32>("mlp_tile K=576 N=1536 rows=32");
    mlp_prefill<576, 1536, 64>("mlp_tile K=576 N=1536 rows=64");
    attention_prefill<9, 3, 64>("attention_tile 9/3 heads of 64");
    attention_prefill<32, 8, 128>("attention_tile 32/8 heads of 128");
}
