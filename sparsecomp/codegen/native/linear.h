// y = W x + bias with W row by row, N rows of K, or stored by columns: K rows of N.
//   linear_rows<T, K>         decode: one x, rows n0..n1; packed where T is quantised
//   linear_tile<T, K>         prefill: m rows of X, rows n0..n1 of W
//   linear_columns<T, K, N>   any m rows of X, rows n0..n1 of W stored by columns
// Outputs are indexed by row: y[n0..n1), Y[i * ldy + n0..n1). bias is float[N] or null.
#pragma once
#include "matrix.h"
#include "quantized_tile.h"

namespace sc {

// y[n0..n1) = W[n0..n1) . x[K] + bias; with row n it asks for ASK weights from ahead(n) on.
template <class T, int K, int ASK, class Ahead>
SC_INLINE void rows_with(float* __restrict y, const float* __restrict x, Matrix<T, K> w,
                         const float* __restrict bias, int64_t n0, int64_t n1, Ahead&& ahead) {
    constexpr int R = Matrix<T, K>::AT_ONCE;
    int64_t n = n0, whole = n0 + (n1 - n0) / 4 * 4;
    for (; n < whole; n += 4) {
        vf sums[4];
        each_constant<4 / R>([&](auto i) SC_ALWAYS {
            typename Matrix<T, K>::Row rows[R], next[R];
            const int64_t first = n + R * i;
            for (int r = 0; r < R; ++r) rows[r] = w.row(first + r), next[r] = ahead(first + r);
            dot_rows<K, ASK>(sums + R * i, x, rows, next);
        });
        quad sum = hsum4(sums[0], sums[1], sums[2], sums[3]);
        if (bias) sum += load_quad(bias + n);
        store_quad(y + n, sum);
    }
    for (; n < n1; ++n)
        y[n] = hsum(dot_row<K, ASK>(x, w.row(n), ahead(n))) + (bias ? bias[n] : 0.0f);
}

// y[n0..n1) = W[n0..n1) . x[K] + bias. Where rows are asked for whole, the first ones, which no row
// asks for, are too: shares are short, and a worker would wait for each.
template <class T, int K>
inline void linear_rows(float* __restrict y, const float* __restrict x, Matrix<T, K> w,
                        const float* __restrict bias, int64_t n0, int64_t n1) {
    if constexpr (is_quantized<T> && Matrix<T, K>::ASK >= K)
        for (int64_t n = n0; n < min(n1, n0 + Matrix<T, K>::AHEAD); ++n) prefetch_row<K>(w.row(n));
    rows_with<T, K, Matrix<T, K>::ASK>(y, x, w, bias, n0, n1,
                                       [&](int64_t n) { return w.ahead(n); });
}

// Rows of weights in one f32 panel, and the most columns of it: panel and activations fit L1.
constexpr int PANEL_ROWS = 8;
constexpr int PANEL_COLS = 768;

// y[m][n] = base[m][n] + x[m][COUNT] . the weights from `start` on of row(0..n), n <= PANEL_ROWS.
template <int COUNT, class Row>
inline void panel_dot(float* y, int64_t ldy, const float* base, int64_t ldbase, const float* x,
                      int64_t ldx, Row row, int64_t start, int64_t m, int64_t n) {
    constexpr int64_t LD = round_up(COUNT, LANES);
    alignas(64) float panel[PANEL_ROWS * LD];
    for (int64_t j = 0; j < n; ++j) widen_part<COUNT>(panel + j * LD, row(j), start);
    dot_tile<COUNT>(y, ldy, base, ldbase, x, ldx, panel, LD, m, n);
}

// The same over K columns, in blocks of at most PANEL_COLS.
template <int K, class Row>
inline void rows_dot(float* y, int64_t ldy, const float* base, int64_t ldbase, const float* x,
                     int64_t ldx, Row row, int64_t m, int64_t n) {
    constexpr int PARTS = (K + PANEL_COLS - 1) / PANEL_COLS;
    constexpr int KC = static_cast<int>(round_up((K + PARTS - 1) / PARTS, LANES));
    constexpr int LAST = K - (K - 1) / KC * KC;
    for (int k = 0; k + KC < K; k += KC) {
        panel_dot<KC>(y, ldy, base, ldbase, x + k, ldx, row, k, m, n);
        base = y;
        ldbase = ldy;
    }
    constexpr int TAIL = K - LAST;
    panel_dot<LAST>(y, ldy, base, ldbase, x + TAIL, ldx, row, TAIL, m, n);
}

// Y[i][n] = row(n) . X[i][K] + bias[n] for i < m, n < N
template <class T, int K, class Row>
inline void rows_tile(float* __restrict Y, int64_t ldy, const float* __restrict X, int64_t ldx,
                      Row row, const float* __restrict bias, int64_t m, int64_t N) {
    if constexpr (multiplies_integers<T>) {
        quantized_tile<T, K>(Y, ldy, X, ldx, row, bias, m, N);
    } else {
        for (int64_t n = 0; n < N; n += PANEL_ROWS)
            rows_dot<K>(Y + n, ldy, bias ? bias + n : ZEROS, 0, X, ldx,
                        [&](int64_t i) { return row(n + i); }, m, min(PANEL_ROWS, N - n));
    }
}

// Y[i][n] = W[n] . X[i][K] + bias[n] for i < m, n0 <= n < n1
template <class T, int K>
inline void linear_tile(float* __restrict Y, int64_t ldy, const float* __restrict X, int64_t ldx,
                        Matrix<T, K> w, const float* __restrict bias, int64_t m, int64_t n0,
                        int64_t n1) {
    rows_tile<T, K>(Y + n0, ldy, X, ldx, [&](int64_t n) { return w.row(n0 + n); },
                    bias ? bias + n0 : nullptr, m, n1 - n0);
}

// Y[i][n] = W[n] . X[i][K] + bias[n] for i < m, n0 <= n < n1, with W[n][k] in row k of w.
// n0 and n1 are multiples of 16, or n1 is N.
template <class T, int K, int N>
inline void linear_columns(float* __restrict Y, int64_t ldy, const float* __restrict X,
                           int64_t ldx, Columns<T, N> w, const float* __restrict bias, int64_t m,
                           int64_t n0, int64_t n1) {
    constexpr int LINE = 16, WIDE = 4 * LINE;
    auto outputs = [&](auto width, int64_t n) {
        constexpr int W = width();
        alignas(64) float panel[TILE * W];
        for (int64_t i = 0; i < m; ++i) {
            float* y = Y + i * ldy + n;
            if (bias)
                std::memcpy(y, bias + n, W * sizeof *y);
            else
                std::memset(y, 0, W * sizeof *y);
        }
        for (int64_t k = 0; k < K; k += TILE) {
            int64_t count = min(TILE, K - k);
            for (int64_t p = 0; p < count; ++p) widen_part<W>(panel + p * W, w.row(k + p), n);
            outer_tile<W>(Y + n, ldy, X + k, ldx, panel, W, m, count);
        }
    };
    int64_t n = n0;
    for (; n + WIDE <= n1; n += WIDE) outputs(Lanes<WIDE>{}, n);
    for (; n + LINE <= n1; n += LINE) outputs(Lanes<LINE>{}, n);
    if constexpr (N % LINE != 0)
        if (n < n1) outputs(Lanes<N % LINE>{}, n);
}

}  // namespace sc
