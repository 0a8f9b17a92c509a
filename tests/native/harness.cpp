// C entry points to instances of the kernels at awkward sizes; test_kernels.py calls them.
#include <atomic>

#include "attention.h"
#include "embed.h"
#include "mlp.h"
#include "norm.h"
#include "pool.h"
#include "reduce.h"
#include "rope.h"
#include "select.h"
#include "refine.h"
#include "sketch.h"
#include "sparse_head.h"
#include "sparse_linear.h"

using namespace sc;
using f32 = float;

#define SHOWN extern "C" __attribute__((visibility("default")))
#define EXPORT SHOWN void

SHOWN int prefill_multiplies_integers() { return multiplies_integers<int8>; }

#define ROW_FUNCTION(NAME, F)                                                       \
    EXPORT NAME(float* y, const float* x, int64_t n) {                              \
        for (int64_t i = 0; i < n; i += LANES) store(y + i, F(load(x + i)));        \
    }
ROW_FUNCTION(row_exp, sc::exp)
ROW_FUNCTION(row_tanh, sc::tanh)
ROW_FUNCTION(row_sigmoid, sc::sigmoid)
ROW_FUNCTION(row_erf, sc::erf)

EXPORT round_trip_67(bf16* y, const float* x) {
    each_vector<67>([&](int i, auto n) { store(y + i, load(x + i, n), n); });
}

#define ACTIVATION(A) \
    EXPORT act_##A(float* y, const float* x) { activate_row<Act::A, 67>(y, x); } \
    EXPORT gate_##A(float* y, const float* x, const float* up) { gate_row<Act::A, 67>(y, x, up); }
ACTIVATION(relu)
ACTIVATION(relu2)
ACTIVATION(silu)
ACTIVATION(gelu_erf)
ACTIVATION(gelu_tanh)
ACTIVATION(quick_gelu)
ACTIVATION(identity)
ACTIVATION(sigmoid)
ACTIVATION(tanh)

#define PACK(K) \
    EXPORT pack_input_##K(float* packed, const float* x) { pack_input<K>(packed, x); }
PACK(1)
PACK(31)
PACK(64)
PACK(65)
PACK(70)
PACK(100)
PACK(576)
PACK(927)

// Weights come as bytes and a number of rows (neurons).
#define LINEAR(T, K)                                                                              \
    EXPORT linear_rows_##T##_##K(float* y, const float* x, const void* w, int64_t rows,           \
                                 const float* b, int64_t n0, int64_t n1) {                        \
        linear_rows<T, K>(y, x, matrix<T, K>(w, rows), b, n0, n1);                                \
    }                                                                                             \
    EXPORT linear_tile_##T##_##K(float* y, int64_t ldy, const float* x, int64_t ldx,              \
                                 const void* w, int64_t rows, const float* b, int64_t m,          \
                                 int64_t n0, int64_t n1) {                                        \
        linear_tile<T, K>(y, ldy, x, ldx, matrix<T, K>(w, rows), b, m, n0, n1);                   \
    }                                                                                             \
    EXPORT linear_rows_from_##T##_##K(float* y, const float* x, const void* w, int64_t rows,      \
                                      int64_t from, int64_t n) {                                  \
        linear_rows<T, K>(y, x, matrix<T, K>(w, rows).from(from), nullptr, 0, n);                 \
    }                                                                                             \
    EXPORT embed_row_##T##_##K(float* y, const void* table, int64_t rows, int64_t id) {           \
        embed_row<T, K>(y, matrix<T, K>(table, rows), id);                                        \
    }
LINEAR(f32, 7)
LINEAR(f32, 1601)
LINEAR(bf16, 64)
LINEAR(bf16, 577)
LINEAR(int8, 1)
LINEAR(int8, 100)
LINEAR(int8, 576)
LINEAR(int8, 927)
LINEAR(int6, 65)
LINEAR(int6, 576)
LINEAR(int5, 65)
LINEAR(int5, 576)
LINEAR(int4, 31)
LINEAR(int4, 65)
LINEAR(int4, 576)

#define COLUMNS(T, K, N)                                                                          \
    EXPORT linear_columns_##T##_##K(float* y, int64_t ldy, const float* x, int64_t ldx,           \
                                    const void* w, const float* b, int64_t m, int64_t n0,         \
                                    int64_t n1) {                                                 \
        linear_columns<T, K, N>(y, ldy, x, ldx, columns<T, N>(w, K), b, m, n0, n1);                \
    }
COLUMNS(f32, 7, 96)
COLUMNS(f32, 130, 37)
COLUMNS(bf16, 64, 105)
COLUMNS(int8, 70, 105)
COLUMNS(int6, 70, 105)
COLUMNS(int5, 70, 105)
COLUMNS(int4, 31, 96)

// Linears of BLOCKS blocks of SIZE on the listed side, OTHER on the other.
#define BLOCKS(T, SIZE, BLOCKS, OTHER)                                                            \
    EXPORT linear_listed_rows_##T##_##SIZE(float* y, const float* x, const void* w,               \
                                           const float* b, const int32_t* list, int64_t n0,       \
                                           int64_t n1) {                                          \
        const auto rows = matrix<T, OTHER>(w, SIZE * BLOCKS);                                     \
        linear_listed_rows<T, OTHER, SIZE, BLOCKS>(y, x, rows, b, list, n0, n1);                  \
    }                                                                                             \
    EXPORT linear_listed_columns_##T##_##SIZE(float* out, const float* x, const void* w,          \
                                              const int32_t* list, int64_t k0, int64_t k1) {      \
        const auto all = columns<T, OTHER>(w, SIZE * BLOCKS);                                     \
        linear_listed_columns<T, OTHER, SIZE>(out, x, all, list, k0, k1);                         \
    }
BLOCKS(f32, 10, 6, 37)
BLOCKS(bf16, 64, 9, 96)
BLOCKS(bf16, 7, 4, 33)
BLOCKS(bf16, 12, 5, 64)
BLOCKS(int8, 9, 5, 64)
BLOCKS(int4, 12, 5, 65)

#define LISTED(NAME, KNOWN, T, A, GATED, K, D)                                                     \
    EXPORT mlp_listed_##NAME##_##T##_##A##_##K(                                                    \
        float* out, int64_t* read, const float* x, const void* w, int64_t count, const float* gb,  \
        const float* ub, const int32_t* list, const float* values, int64_t first, int64_t end) {   \
        *read = mlp_listed<T, Act::A, GATED, KNOWN, K, D>(                                         \
            out, x, neurons<T, GATED, K, D>(w, count), gb, ub, list, values, first, end);          \
    }
EXPORT listed_bounds(int64_t* bounds, int64_t count, int64_t workers) {
    for (int w = 0; w <= workers; ++w)
        bounds[w] = listed_begin(count, w, static_cast<int>(workers));
}

#define MLP(T, A, GATED, K, D)                                                                     \
    EXPORT mlp_neurons_##T##_##A##_##K(float* out, const float* x, const void* w, int64_t count,   \
                                       const float* gb, const float* ub, int64_t n0, int64_t n1) { \
        mlp_neurons<T, Act::A, GATED, K, D>(out, x, neurons<T, GATED, K, D>(w, count), gb, ub, n0, \
                                            n1);                                                   \
    }                                                                                              \
    EXPORT mlp_tile_##T##_##A##_##K(float* out, int64_t ldo, const float* x, int64_t ldx,          \
                                    const void* w, int64_t count, const float* gb,                 \
                                    const float* ub, int64_t m, int64_t n0, int64_t n1) {          \
        mlp_tile<T, Act::A, GATED, K, D>(out, ldo, x, ldx, neurons<T, GATED, K, D>(w, count), gb,  \
                                         ub, m, n0, n1);                                           \
    }                                                                                              \
    EXPORT mlp_values_##T##_##A##_##K(float* y, const float* x, const void* w, int64_t count,      \
                                      const float* gb, const float* ub, int64_t n0, int64_t n1) {  \
        mlp_values<T, Act::A, GATED, false, K, D>(y, x, neurons<T, GATED, K, D>(w, count), gb, ub, \
                                                  n0, n1);                                         \
    }                                                                                              \
    EXPORT mlp_gates_##T##_##A##_##K(float* y, const float* x, const void* w, int64_t count,       \
                                     const float* gb, const float* ub, int64_t n0, int64_t n1) {   \
        mlp_values<T, Act::A, GATED, GATED, K, D>(y, x, neurons<T, GATED, K, D>(w, count), gb, ub, \
                                                  n0, n1);                                         \
    }                                                                                              \
    LISTED(nothing, Known::nothing, T, A, GATED, K, D)                                             \
    LISTED(gate, GATED ? Known::gate : Known::value, T, A, GATED, K, D)                            \
    LISTED(value, Known::value, T, A, GATED, K, D)
MLP(bf16, relu, false, 70, 33)
MLP(f32, relu, true, 21, 18)
MLP(bf16, silu, true, 37, 45)
MLP(f32, gelu_tanh, true, 64, 130)
MLP(f32, relu2, false, 33, 64)
MLP(bf16, gelu_erf, false, 96, 20)
MLP(int8, relu, true, 70, 33)
MLP(int8, silu, true, 65, 100)
MLP(int6, silu, true, 65, 100)
MLP(int4, relu, false, 100, 65)

// By the high planes alone, corrected by rows of RANK where there is a z.
#define COARSE(A, GATED, K, D, RANK)                                                              \
    EXPORT mlp_coarse_##A##_##K(float* y, const float* x, const float* z, const void* w,          \
                                const void* rows, int64_t count, const float* gb,                 \
                                const float* ub, int64_t n0, int64_t n1) {                        \
        const auto all = neurons<int8, GATED, K, D>(w, count);                                    \
        const auto correction = matrix<int4, RANK>(rows, (GATED ? 2 : 1) * count);                \
        if (z)                                                                                    \
            mlp_coarse<int8, Act::A, GATED, K, D>(y, x, all, gb, ub,                              \
                                                  Correction<RANK>{z, correction}, n0, n1);       \
        else                                                                                      \
            mlp_coarse<int8, Act::A, GATED, K, D>(y, x, all, gb, ub, Uncorrected{}, n0, n1);      \
    }                                                                                             \
    EXPORT add_coarse_##A##_##K(float* out, const void* w, int64_t count, const int32_t* list,    \
                                const float* values, int64_t first, int64_t end) {                \
        add_coarse<int8, GATED, K, D>(out, neurons<int8, GATED, K, D>(w, count), list, values,    \
                                      first, end);                                                \
    }
COARSE(relu, true, 70, 33, 31)
COARSE(silu, true, 65, 100, 64)
COARSE(relu, false, 100, 65, 70)

// Neurons whose rows lie in a matrix.
#define MLP_ROWS(T, A, GATED, K)                                                               \
    EXPORT mlp_rows_##T##_##A##_##K(float* y, const float* x, const void* w, int64_t count,   \
                                    const float* gb, const float* ub, int64_t n0, int64_t n1) { \
        const auto rows = matrix<T, K>(w, (GATED ? 2 : 1) * count);                            \
        mlp_rows<T, Act::A, GATED, K>(y, x, rows, gb, ub, n0, n1);                             \
    }
MLP_ROWS(f32, relu, false, 31)
MLP_ROWS(bf16, silu, true, 100)
MLP_ROWS(int4, relu2, true, 64)

#define SELECT(MAGNITUDE, N, G, K)                                                         \
    EXPORT select_above_##MAGNITUDE##_##N(int32_t* list, const float* x, const float* scales, \
                                          float threshold, float below) {                  \
        select_above<MAGNITUDE, N>(list, x, scales, threshold, below);                     \
    }                                                                                      \
    EXPORT select_best_##MAGNITUDE##_##N(int32_t* list, const float* x,                    \
                                         const float* scales) {                            \
        select_best<MAGNITUDE, N, G, K>(list, x, scales);                                  \
    }
SELECT(false, 9, 9, 9)
SELECT(false, 77, 32, 7)
SELECT(true, 77, 77, 30)
SELECT(true, 64, 8, 0)
SELECT(false, 3001, 3001, 100)  // sought in two steps

#define LIKELY(N, K)                                                                \
    EXPORT select_likely_false_##N(int32_t* list, const float* x, const float*, float log_share) { \
        select_likely<N, K>(list, x, log_share);                                    \
    }
LIKELY(9, 3)
LIKELY(77, 5)
LIKELY(3001, 100)

#define SKETCH(N, K, BITS)                                                                \
    EXPORT sketch_##N##_##K##_##BITS(float* y, const float* x, const char* sketch,        \
                                     int64_t n0, int64_t n1) {                            \
        sketch_rows<N, K, BITS>(y, x, sketch, n0, n1);                                    \
    }
SKETCH(40, 24, 2)
SKETCH(48, 64, 1)
SKETCH(37, 330, 2)
SKETCH(37, 700, 1)

#define REFINE(N, K)                                                                      \
    EXPORT refine_listed_##N##_##K(float* y, const float* x, const char* refinement,      \
                                   const float* scores, float offset, const int32_t* list, \
                                   int worker, int workers) {                             \
        refine_listed<N, K>(y, x, refinement, scores, offset, list, worker, workers);     \
    }
REFINE(80, 70)
REFINE(80, 700)

#define HEAD(T, N, K)                                                                     \
    EXPORT head_listed_##T##_##K(float* y, const float* x, const void* w, const float* b, \
                                 const float* scores, float offset, const int32_t* list,  \
                                 int worker, int workers) {                               \
        head_listed<T, N, K>(y, x, matrix<T, K>(w, N), b, scores, offset, list, worker, workers); \
    }
HEAD(f32, 80, 7)
HEAD(int8, 80, 100)

#define ATTENTION(T, H, KVH, D, DV)                                                               \
    EXPORT append_##T##_##H(T* kc, T* vc, const float* k, const float* v, int64_t pos,            \
                            int64_t ring) {                                                       \
        kv_append<T, KVH, D, DV>(kc, vc, k, v, pos, ring);                                        \
    }                                                                                             \
    EXPORT decode_##T##_##H(float* out, float* parts, const float* q, const T* kc, const T* vc,   \
                            const int64_t* bounds, int64_t ring, float scale, float softcap,      \
                            const float* slopes, const float* sinks, int64_t pos) {               \
        constexpr int64_t SIZE = attention_part_size<H, DV>();                                    \
        for (int w = 0; w < 3; ++w)                                                               \
            attention_partial<T, H, KVH, D, DV>(parts + w * SIZE, q, kc, vc, bounds[w],           \
                                                bounds[w + 1], ring, scale, softcap, slopes,      \
                                                pos);                                             \
        attention_combine<3, H, DV>(out, parts, SIZE, sinks);                                     \
    }                                                                                             \
    EXPORT decode_listed_##T##_##H(float* out, int64_t* read, float* parts, const int32_t* list,  \
                                   const float* q, const T* kc, const T* vc,                      \
                                   const int64_t* bounds, int64_t ring, float scale,              \
                                   float softcap, const float* slopes, const float* sinks,        \
                                   int64_t pos) {                                                 \
        constexpr int64_t SIZE = attention_part_size<H, DV>();                                    \
        for (int w = 0; w < 3; ++w)                                                               \
            read[w] = attention_partial_listed<T, H, KVH, D, DV>(                                 \
                parts + w * SIZE, list, q, kc, vc, bounds[w], bounds[w + 1], ring, scale,         \
                softcap, slopes, pos);                                                            \
        attention_combine_listed<3, H, DV>(out, list, parts, SIZE, sinks);                        \
    }                                                                                             \
    EXPORT prefill_##T##_##H(float* out, int64_t ldo, const float* q, int64_t ldq, const T* kc,   \
                             const T* vc, int64_t pos0, int64_t m, int64_t ring, int64_t window,  \
                             int64_t chunk, float scale, float softcap, const float* slopes,      \
                             const float* sinks) {                                                \
        attention_tile<T, H, KVH, D, DV>(out, ldo, q, ldq, kc, vc, pos0, m, ring, window, chunk,  \
                                         scale, softcap, slopes, sinks);                          \
    }
ATTENTION(f32, 2, 2, 20, 12)
ATTENTION(bf16, 9, 3, 64, 64)
ATTENTION(f32, 8, 1, 16, 33)

#define NORM(D)                                                                                   \
    EXPORT rms_norm_##D(float* y, const float* x, const float* w, float eps) {                    \
        rms_norm<D>(y, x, w, eps);                                                                \
    }                                                                                             \
    EXPORT layer_norm_##D(float* y, const float* x, const float* w, const float* b, float eps) {  \
        layer_norm<D>(y, x, w, b, eps);                                                           \
    }
NORM(3)
NORM(64)
NORM(577)

#define ROPE(P, D, R)                                                                       \
    EXPORT rope_##P##_##D##_##R(float* y, const float* x, const float* a, const float* b) { \
        rope<Pairing::P, D, R>(y, x, a, b);                                                 \
    }
ROPE(half, 64, 64)
ROPE(half, 21, 10)
ROPE(interleaved, 64, 64)
ROPE(interleaved, 21, 10)

EXPORT sum_partials_1(float* y, const float* parts, int64_t stride, const float* b,
                      const float* r) {
    sum_partials<1, 37>(y, parts, stride, b, r);
}
EXPORT sum_partials_3(float* y, const float* parts, int64_t stride, const float* b,
                      const float* r) {
    sum_partials<3, 37>(y, parts, stride, b, r);
}

// Every worker steps its own counter, waits, and checks that all counters agree.
struct Rounds {
    Pool* pool;
    int64_t barriers;
    std::atomic<int64_t> steps[16];
    std::atomic<int64_t> errors;
};

static void count_rounds(void* context, int worker) {
    auto& rounds = *static_cast<Rounds*>(context);
    for (int64_t i = 0; i < rounds.barriers; ++i) {
        int64_t mine = rounds.steps[worker].load() + 1;
        rounds.steps[worker].store(mine);
        rounds.pool->barrier();
        for (int w = 0; w < rounds.pool->workers(); ++w)
            if (rounds.steps[w].load() != mine) ++rounds.errors;
        rounds.pool->barrier();
    }
}

extern "C" void* pool_open(int workers) { return new Pool(workers); }
extern "C" void pool_close(void* pool) { delete static_cast<Pool*>(pool); }
// Returns the sum of all steps, or -1 when the counters disagreed after any barrier.
extern "C" int64_t pool_rounds(void* pool, int64_t runs, int64_t barriers) {
    Rounds rounds{static_cast<Pool*>(pool), barriers, {}, {0}};
    for (int64_t i = 0; i < runs; ++i) rounds.pool->run(count_rounds, &rounds);
    int64_t sum = 0;
    for (int w = 0; w < rounds.pool->workers(); ++w) sum += rounds.steps[w].load();
    return rounds.errors.load() ? -1 : sum;
}
