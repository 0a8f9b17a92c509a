// One row of weights, float or bf16, as the kernels use it. quantized.h has the same for rows
// of quantised weights:
//   dot_row<K>         its product with activations; dot_rows<K>: of some rows at once
//   add_rows<N>        out += c row, for some rows at once
//   widen_part<N>      part of it as floats
//   prefetch_row<N>    asks for its first N weights
// Memory that is asked for (`next`) may lie beyond the weights.
#pragma once
#include "simd.h"

namespace sc {

// The products of x[K] and w[K], summed but for the lanes of the result. Reads one row after the
// other: parallel streams make the hardware prefetcher lose its place. Meanwhile it asks for the
// first ASK elements of the row at `next`.
template <int K, int ASK = K, class T>
SC_INLINE vf dot_row(const float* __restrict x, const T* __restrict w, const T* next) {
    constexpr int CHAINS = 4, STEP = CHAINS * LANES, WHOLE = K / STEP * STEP;
    vf acc[CHAINS] = {};
    for (int k = 0; k < WHOLE; k += STEP) {
        if (k < ASK) prefetch<STEP>(next + k);
        for (int j = 0; j < CHAINS; ++j)
            acc[j] += load(x + k + j * LANES) * load(w + k + j * LANES);
    }
    if constexpr (WHOLE < ASK) prefetch<K - WHOLE>(next + WHOLE);
    each_vector<K - WHOLE>([&](int k, auto n) {
        acc[k / LANES] += load(x + WHOLE + k, n) * load(w + WHOLE + k, n);
    });
    return (acc[0] + acc[1]) + (acc[2] + acc[3]);
}

// sums[r] = the products of x[K] and rows[r], as dot_row has them.
template <int K, int ASK = K, int R, class T>
SC_INLINE void dot_rows(vf* sums, const float* __restrict x, const T* const (&rows)[R],
                        const T* const (&next)[R]) {
    for (int r = 0; r < R; ++r) sums[r] = dot_row<K, ASK>(x, rows[r], next[r]);
}

// out[N] += c[r] rows[r] for R rows; meanwhile, with ASK, it asks for the rows at `next`.
template <int N, bool ASK = true, int R, class T>
SC_INLINE void add_rows(float* __restrict out, const float* c, const T* const (&rows)[R],
                        const T* const (&next)[R]) {
    constexpr int64_t LINE = 64 / sizeof(T);
    vf s[R];
    for (int r = 0; r < R; ++r) s[r] = splat(c[r]);
    each_vector<N>([&](int i, auto n) {
        vf y = load(out + i, n);
        for (int r = 0; r < R; ++r) {
            if (ASK && i % LINE == 0) prefetch<1>(next[r] + i);
            y += s[r] * load(rows[r] + i, n);
        }
        store(out + i, y, n);
    });
}

// y[N] = the weights from `start` on.
template <int N, class T>
SC_INLINE void widen_part(float* __restrict y, const T* __restrict row, int64_t start) {
    widen_row<N>(y, row + start);
}

template <int N, class T>
SC_INLINE void prefetch_row(const T* row) {
    prefetch<N>(row);
}

}  // namespace sc
