// Attention over one layer's cache, K [KVH][ring][D] and V [KVH][ring][DV] of T.
//   kv_append             writes one position
//   attention_partial     decode: one query over a range of positions, unnormalised
//   attention_combine     decode: joins the partials of all workers
//   attention_partial_listed, attention_combine_listed  the same for some of the heads
//   attention_tile        prefill: m queries, causal, with sliding window or chunks
// Position p lives in slot p % ring; the H heads are KVH groups that share K and V.
// score = softcap(scale q.k) + slope (j - p) with softcap(s) = cap tanh(s / cap), 0 for none;
// slopes (ALiBi) and sinks (a logit with no value) are float[H] or null.
#pragma once
#include <cmath>

#include "tile.h"

namespace sc {

constexpr int KEYS = 64;  // positions in one block of scores

template <int KVH, int D, class T>
SC_INLINE void append_rows(T* __restrict cache, const float* __restrict x, int64_t slot,
                           int64_t ring) {
    for (int g = 0; g < KVH; ++g) {
        T* row = cache + (g * ring + slot) * D;
        each_vector<D>([&](int i, auto n) { store(row + i, load(x + g * D + i, n), n); });
    }
}

// k[KVH][D] and v[KVH][DV] become position pos.
template <class T, int KVH, int D, int DV>
inline void kv_append(T* __restrict kcache, T* __restrict vcache, const float* __restrict k,
                      const float* __restrict v, int64_t pos, int64_t ring) {
    append_rows<KVH, D>(kcache, k, pos % ring, ring);
    append_rows<KVH, DV>(vcache, v, pos % ring, ring);
}

// The rows of n positions from `first` on as f32; `head` is one head's part of the cache.
template <int D, class T>
SC_INLINE void gather_rows(float* __restrict rows, int64_t ld, const T* __restrict head,
                           int64_t first, int64_t n, int64_t ring) {
    int64_t slot = first % ring;
    for (int64_t j = 0; j < n; ++j) {
        widen_row<D>(rows + j * ld, head + slot * D);
        if (++slot == ring) slot = 0;
    }
}

// The first position that position p attends to.
SC_INLINE int64_t attention_begin(int64_t p, int64_t window, int64_t chunk) {
    int64_t begin = window > 0 ? max(0, p - window + 1) : 0;
    return chunk > 0 ? max(begin, p / chunk * chunk) : begin;
}

struct Softmax {
    float max = -INF;
    float sum = 0.0f;
};

// Turns n scores q.k (n <= KEYS, room for whole vectors) of positions first.. into weights
// exp(score - max) and folds them into `state`; positions outside [begin, end) weigh 0.
// Returns the factor by which what was summed before must be scaled.
SC_INLINE float softmax_block(float* __restrict s, int64_t n, Softmax& state, int64_t first,
                              int64_t begin, int64_t end, float scale, float softcap, float slope,
                              int64_t pos) {
    vf lane;
    for (int i = 0; i < LANES; ++i) lane[i] = static_cast<float>(i);
    float low = static_cast<float>(begin - first), high = static_cast<float>(min(end - first, n));
    float distance = static_cast<float>(first - pos);
    vf top = splat(-INF);
    for (int64_t j = 0; j < n; j += LANES) {
        vf at = lane + static_cast<float>(j);
        vf x = load(s + j) * scale;
        if (softcap != 0.0f) x = softcap * tanh(x * (1.0f / softcap));
        if (slope != 0.0f) x += slope * (at + distance);
        x = at < low ? splat(-INF) : x;
        x = at < high ? x : splat(-INF);
        store(s + j, x);
        top = vmax(x, top);
    }
    float peak = hmax(top);
    peak = peak > state.max ? peak : state.max;
    float shift = peak == -INF ? 0.0f : peak;  // nothing seen yet: every weight is exp(-inf)
    vf sum{};
    for (int64_t j = 0; j < n; j += LANES) {
        vf e = exp(load(s + j) - shift);
        store(s + j, e);
        sum += e;
    }
    float factor = exp(state.max - shift);
    state.sum = state.sum * factor + hsum(sum);
    state.max = peak;
    return factor;
}

template <int N>
SC_INLINE void scale_row(float* y, float factor) {
    if (factor == 1.0f) return;
    each_vector<N>([&](int i, auto n) { store(y + i, load(y + i, n) * factor, n); });
}

// One head of a partial result: acc[DV], then the maximum and the sum of its softmax.
template <int DV>
struct Partial {
    static constexpr int64_t MAX = round_up(DV, 16);
    static constexpr int64_t SUM = MAX + 1;
    static constexpr int64_t STRIDE = MAX + 16;
};

// Floats in one worker's partial result.
template <int H, int DV>
constexpr int64_t attention_part_size() {
    return H * Partial<DV>::STRIDE;
}

// The heads of group g over positions [first, last): see attention_partial.
template <class T, int H, int KVH, int D, int DV>
SC_INLINE void attention_group(float* __restrict part, const float* __restrict q,
                               const T* __restrict kcache, const T* __restrict vcache, int64_t g,
                               int64_t first, int64_t last, int64_t ring, float scale,
                               float softcap, const float* __restrict slopes, int64_t pos) {
    constexpr int G = H / KVH, R = G < ROWS ? G : ROWS;
    constexpr int64_t STEP = 8, AHEAD = 3072 / sizeof(T);  // measured
    using P = Partial<DV>;
    alignas(64) float scores[G * KEYS] = {};
    float* acc = part + g * G * P::STRIDE;
    const float* qg = q + g * G * D;
    Softmax state[G];
    std::memset(acc, 0, G * P::STRIDE * sizeof *acc);
    for (int64_t j = first, n; j < last; j += n) {
        int64_t slot = j % ring;
        n = min(min(KEYS, last - j), ring - slot);  // a block does not wrap around
        const T* keys = kcache + (g * ring + slot) * D;
        const T* values = vcache + (g * ring + slot) * DV;
        for (int64_t i = 0; i < n; i += STEP) {
            prefetch<STEP * D>(keys + i * D + AHEAD);
            dot_tile<D, R>(scores + i, KEYS, ZEROS, 0, qg, D, keys + i * D, D, G,
                           min(STEP, n - i));
        }
        for (int h = 0; h < G; ++h) {
            float factor = softmax_block(scores + h * KEYS, n, state[h], j, first, last, scale,
                                         softcap, slopes ? slopes[g * G + h] : 0.0f, pos);
            scale_row<DV>(acc + h * P::STRIDE, factor);
        }
        for (int64_t i = 0; i < n; i += STEP) {
            prefetch<STEP * DV>(values + i * DV + AHEAD);
            outer_tile<DV, R>(acc, P::STRIDE, scores + i, KEYS, values + i * DV, DV, G,
                              min(STEP, n - i));
        }
    }
    for (int h = 0; h < G; ++h) {
        acc[h * P::STRIDE + P::MAX] = state[h].max;
        acc[h * P::STRIDE + P::SUM] = state[h].sum;
    }
}

// The query q[H][D] at position pos over positions [first, last), into part (overwritten);
// an empty range gives max = -inf and sum = 0.
template <class T, int H, int KVH, int D, int DV>
inline void attention_partial(float* __restrict part, const float* __restrict q,
                              const T* __restrict kcache, const T* __restrict vcache,
                              int64_t first, int64_t last, int64_t ring, float scale,
                              float softcap, const float* __restrict slopes, int64_t pos) {
    for (int64_t g = 0; g < KVH; ++g)
        attention_group<T, H, KVH, D, DV>(part, q, kcache, vcache, g, first, last, ring, scale,
                                          softcap, slopes, pos);
}

// The same for the groups that have a listed head: keys and values of the others are not read, and
// their part is left alone. `list` is a count, then that many heads, ascending. Returns how many
// groups were read.
template <class T, int H, int KVH, int D, int DV>
inline int64_t attention_partial_listed(float* __restrict part, const int32_t* __restrict list,
                                        const float* __restrict q, const T* __restrict kcache,
                                        const T* __restrict vcache, int64_t first, int64_t last,
                                        int64_t ring, float scale, float softcap,
                                        const float* __restrict slopes, int64_t pos) {
    int64_t groups = 0, done = -1;
    for (int32_t i = 1; i <= list[0]; ++i) {
        int64_t g = list[i] / (H / KVH);
        if (g == done) continue;
        attention_group<T, H, KVH, D, DV>(part, q, kcache, vcache, g, first, last, ring, scale,
                                          softcap, slopes, pos);
        done = g;
        ++groups;
    }
    return groups;
}

// Head h of out[H][DV]: see attention_combine.
template <int W, int DV>
SC_INLINE void combine_head(float* __restrict out, const float* __restrict parts, int64_t stride,
                            const float* __restrict sinks, int64_t h) {
    using P = Partial<DV>;
    const float* part = parts + h * P::STRIDE;
    float peak = sinks ? sinks[h] : -INF;
    for (int w = 0; w < W; ++w) {
        float m = part[w * stride + P::MAX];
        peak = m > peak ? m : peak;
    }
    float sum = sinks ? exp(sinks[h] - peak) : 0.0f;
    float factor[W];
    for (int w = 0; w < W; ++w) {
        factor[w] = exp(part[w * stride + P::MAX] - peak);
        sum += factor[w] * part[w * stride + P::SUM];
    }
    for (int w = 0; w < W; ++w) factor[w] /= sum;
    each_vector<DV>([&](int i, auto n) {
        vf y{};
        for (int w = 0; w < W; ++w) y += factor[w] * load(part + w * stride + i, n);
        store(out + h * DV + i, y, n);
    });
}

// out[H][DV] from W partial results that lie `stride` floats apart.
template <int W, int H, int DV>
inline void attention_combine(float* __restrict out, const float* __restrict parts, int64_t stride,
                              const float* __restrict sinks) {
    for (int64_t h = 0; h < H; ++h) combine_head<W, DV>(out, parts, stride, sinks, h);
}

// The same for the listed heads, and 0 for the others.
template <int W, int H, int DV>
inline void attention_combine_listed(float* __restrict out, const int32_t* __restrict list,
                                     const float* __restrict parts, int64_t stride,
                                     const float* __restrict sinks) {
    std::memset(out, 0, H * DV * sizeof *out);
    for (int32_t i = 1; i <= list[0]; ++i)
        combine_head<W, DV>(out, parts, stride, sinks, list[i]);
}

// columns[d][j] = row j of the n positions from `first` on, KEYS columns, 0 beyond n.
template <int D, class T>
SC_INLINE void gather_columns(float* __restrict columns, const T* __restrict head, int64_t first,
                              int64_t n, int64_t ring) {
    int64_t slot = first % ring;
    for (int64_t j = 0; j < KEYS; j += LANES) {
        const T* rows[LANES];
        for (int i = 0; i < LANES; ++i) {
            rows[i] = head + slot * D;  // beyond n any row will do: its weight is 0
            if (j + i + 1 < n && ++slot == ring) slot = 0;
        }
        each_vector<D>([&](int d, auto lanes) {
            vf v[LANES];
            for (int i = 0; i < LANES; ++i) v[i] = load(rows[i] + d, lanes);
            transpose(v);
            for (int i = 0; i < lanes(); ++i) store(columns + (d + i) * KEYS + j, v[i]);
        });
    }
}

// OUT[i][H*DV] for the queries Q[i][H*D] at positions pos0 + i, i < m. Every position that they
// attend to is in the cache already; with a window, ring >= window + m - 1.
// A query at p attends to [max(0, p - window + 1, p / chunk * chunk), p]; 0 means no window, no
// chunks.
template <class T, int H, int KVH, int D, int DV>
inline void attention_tile(float* __restrict OUT, int64_t ldo, const float* __restrict Q,
                           int64_t ldq, const T* __restrict kcache, const T* __restrict vcache,
                           int64_t pos0, int64_t m, int64_t ring, int64_t window, int64_t chunk,
                           float scale, float softcap, const float* __restrict slopes,
                           const float* __restrict sinks) {
    constexpr int G = H / KVH;
    constexpr int64_t LDV = round_up(DV, LANES);
    alignas(64) float keys[D * KEYS], values[KEYS * LDV], scores[TILE * KEYS];
    for (int64_t i0 = 0; i0 < m; i0 += TILE) {
        int64_t rows = min(TILE, m - i0), p0 = pos0 + i0, end = p0 + rows;
        for (int g = 0; g < KVH; ++g) {
            Softmax state[G][TILE];
            float* out = OUT + i0 * ldo + g * G * DV;
            const float* q = Q + i0 * ldq + g * G * D;
            for (int64_t i = 0; i < rows; ++i) std::memset(out + i * ldo, 0, G * DV * sizeof *out);
            for (int64_t j = attention_begin(p0, window, chunk); j < end; j += KEYS) {
                int64_t n = min(KEYS, end - j);
                gather_columns<D>(keys, kcache + g * ring * D, j, n, ring);
                gather_rows<DV>(values, LDV, vcache + g * ring * DV, j, n, ring);
                // The rows that attend to any of these keys lie together.
                int64_t from = max(0, j - p0), to = rows;
                while (attention_begin(p0 + to - 1, window, chunk) >= j + n) --to;
                for (int h = 0; h < G; ++h) {
                    std::memset(scores, 0, (to - from) * KEYS * sizeof *scores);
                    outer_tile<KEYS>(scores, KEYS, q + from * ldq + h * D, ldq, keys, KEYS,
                                     to - from, D);
                    for (int64_t i = from; i < to; ++i) {
                        int64_t p = p0 + i;
                        float factor = softmax_block(
                            scores + (i - from) * KEYS, n, state[h][i], j,
                            attention_begin(p, window, chunk), p + 1, scale, softcap,
                            slopes ? slopes[g * G + h] : 0.0f, p);
                        scale_row<DV>(out + i * ldo + h * DV, factor);
                    }
                    outer_tile<DV>(out + from * ldo + h * DV, ldo, scores, KEYS, values, LDV,
                                   to - from, n);
                }
            }
            for (int h = 0; h < G; ++h)
                for (int64_t i = 0; i < rows; ++i) {
                    const Softmax& s = state[h][i];
                    float sum = s.sum + (sinks ? exp(sinks[g * G + h] - s.max) : 0.0f);
                    scale_row<DV>(out + i * ldo + h * DV, 1.0f / sum);
                }
        }
    }
}

}  // namespace sc
