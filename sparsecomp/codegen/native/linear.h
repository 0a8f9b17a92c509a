// y = W x + bias with W row-major [N][K] of T, K contiguous.
//   linear_rows<T, K>  decode: one x, rows n0..n1
//   linear_tile<T, K>  prefill: m rows of X, rows n0..n1 of W
// Outputs are indexed by row: y[n0..n1), Y[i * ldy + n0..n1). bias is float[N] or null.
#pragma once
#include "tile.h"

namespace sc {

// The products of x[K] and w[K], summed but for the lanes of the result. Reads one row after the
// other: parallel streams make the hardware prefetcher lose its place. Meanwhile it asks for the
// row at `next`, which may lie beyond the weights.
template <int K, class T>
SC_INLINE vf dot_row(const float* __restrict x, const T* __restrict w, const T* next) {
    constexpr int CHAINS = 4, STEP = CHAINS * LANES, WHOLE = K / STEP * STEP;
    vf acc[CHAINS] = {};
    for (int k = 0; k < WHOLE; k += STEP) {
        prefetch<STEP>(next + k);
        for (int j = 0; j < CHAINS; ++j)
            acc[j] += load(x + k + j * LANES) * load(w + k + j * LANES);
    }
    prefetch<K - WHOLE>(next + WHOLE);
    each_vector<K - WHOLE>([&](int k, auto n) {
        acc[k / LANES] += load(x + WHOLE + k, n) * load(w + WHOLE + k, n);
    });
    return (acc[0] + acc[1]) + (acc[2] + acc[3]);
}

// y[n0..n1) = W[n0..n1) . x[K] + bias
template <class T, int K>
inline void linear_rows(float* __restrict y, const float* __restrict x, const T* __restrict w,
                        const float* __restrict bias, int64_t n0, int64_t n1) {
    constexpr int64_t AHEAD = 8192 / sizeof(T);  // measured: from 4 to 16 KiB all are as good
    auto dot = [&](int64_t n) { return dot_row<K>(x, w + n * K, w + n * K + AHEAD); };
    int64_t n = n0, whole = n0 + (n1 - n0) / 4 * 4;
    for (; n < whole; n += 4) {
        vf a = dot(n), b = dot(n + 1), c = dot(n + 2), d = dot(n + 3);
        quad sum = hsum4(a, b, c, d);
        if (bias) sum += load_quad(bias + n);
        store_quad(y + n, sum);
    }
    for (; n < n1; ++n) y[n] = hsum(dot(n)) + (bias ? bias[n] : 0.0f);
}

// Rows of weights in one f32 panel, and the most columns of it: panel and activations fit L1.
constexpr int PANEL_ROWS = 8;
constexpr int PANEL_COLS = 768;

// y[m][n] = base[m][n] + x[m][COUNT] . w[n][COUNT] for n <= PANEL_ROWS rows of T.
template <int COUNT, class T>
inline void panel_dot(float* y, int64_t ldy, const float* base, int64_t ldbase, const float* x,
                      int64_t ldx, const T* w, int64_t stride, int64_t m, int64_t n) {
    constexpr int64_t LD = round_up(COUNT, LANES);
    alignas(64) float panel[PANEL_ROWS * LD];
    for (int64_t j = 0; j < n; ++j) widen_row<COUNT>(panel + j * LD, w + j * stride);
    dot_tile<COUNT>(y, ldy, base, ldbase, x, ldx, panel, LD, m, n);
}

// The same over K columns, in blocks of at most PANEL_COLS.
template <int K, class T>
inline void rows_dot(float* y, int64_t ldy, const float* base, int64_t ldbase, const float* x,
                     int64_t ldx, const T* w, int64_t stride, int64_t m, int64_t n) {
    constexpr int BLOCKS = (K + PANEL_COLS - 1) / PANEL_COLS;
    constexpr int KC = static_cast<int>(round_up((K + BLOCKS - 1) / BLOCKS, LANES));
    constexpr int LAST = K - (K - 1) / KC * KC;
    for (int k = 0; k + KC < K; k += KC) {
        panel_dot<KC>(y, ldy, base, ldbase, x + k, ldx, w + k, stride, m, n);
        base = y;
        ldbase = ldy;
    }
    constexpr int TAIL = K - LAST;
    panel_dot<LAST>(y, ldy, base, ldbase, x + TAIL, ldx, w + TAIL, stride, m, n);
}

// Y[i][n] = W[n] . X[i][K] + bias[n] for i < m, n0 <= n < n1
template <class T, int K>
inline void linear_tile(float* __restrict Y, int64_t ldy, const float* __restrict X, int64_t ldx,
                        const T* __restrict w, const float* __restrict bias, int64_t m, int64_t n0,
                        int64_t n1) {
    for (int64_t n = n0; n < n1; n += PANEL_ROWS) {
        int64_t count = min(PANEL_ROWS, n1 - n);
        rows_dot<K>(Y + n, ldy, bias ? bias + n : ZEROS, 0, X, ldx, w + n * K, K, m, count);
    }
}

}  // namespace sc
