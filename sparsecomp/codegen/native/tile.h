// Register-blocked matrix products: the inner loops of prefill and attention. The right-hand side
// is widened at each use, so one that many rows use is widened to an f32 panel first.
//   dot_tile<K>    Y = base + X W^T   both operands have K contiguous
//   outer_tile<N>  Y += A B           B has its N columns contiguous
// Any number of rows works; leading dimensions (ld*) count elements.
#pragma once
#include "simd.h"

namespace sc {

// Accumulators fill the register file: ROWS x 4 vectors of 32 registers, or of 16 with plain AVX.
#if defined(__AVX__) && !defined(__AVX512F__)
constexpr int ROWS = 3;
#else
constexpr int ROWS = 6;
#endif
constexpr int COLS = 4;

// Panels converted to f32 once are used by up to this many rows of activations.
constexpr int TILE = 64;

// A row of addends for dot_tile when there is nothing to add.
alignas(64) constexpr float ZEROS[TILE] = {};

// Calls f(std::integral_constant<int, rows>) for 1 <= rows <= R.
template <int R, class F>
SC_INLINE void with_rows(int64_t rows, F&& f) {
    if constexpr (R > 1) {
        if (rows < R) return with_rows<R - 1>(rows, f);
    }
    f(std::integral_constant<int, R>{});
}

// Cuts m rows into blocks of at most R, as even as possible, and calls f(first, constant rows).
template <int R, class F>
SC_INLINE void row_blocks(int64_t m, F&& f) {
    for (int64_t i = 0, rows; i < m; i += rows) {
        int64_t blocks = (m - i + R - 1) / R;
        rows = (m - i + blocks - 1) / blocks;
        with_rows<R>(rows, [&](auto r) { f(i, r); });
    }
}

// y[R][4] = base[R][4] + x[R] . w[4]
template <int K, int R, class T>
inline void dot_block(float* y, int64_t ldy, const float* base, int64_t ldbase,
                      const float* __restrict x, int64_t ldx, const T* __restrict w,
                      int64_t ldw) {
    vf acc[R][COLS] = {};
    each_vector<K>([&](int k, auto n) {
        vf b[COLS];
        for (int j = 0; j < COLS; ++j) b[j] = load(w + j * ldw + k, n);
        for (int i = 0; i < R; ++i) {
            vf a = load(x + i * ldx + k, n);
            for (int j = 0; j < COLS; ++j) acc[i][j] += a * b[j];
        }
    });
    for (int i = 0; i < R; ++i) {
        quad sum = hsum4(acc[i][0], acc[i][1], acc[i][2], acc[i][3]);
        store_quad(y + i * ldy, load_quad(base + i * ldbase) + sum);
    }
}

// y[R] = base[R] + x[R] . w, one column
template <int K, int R, class T>
inline void dot_column(float* y, int64_t ldy, const float* base, int64_t ldbase,
                       const float* __restrict x, int64_t ldx, const T* __restrict w) {
    vf acc[R] = {};
    each_vector<K>([&](int k, auto n) {
        vf b = load(w + k, n);
        for (int i = 0; i < R; ++i) acc[i] += load(x + i * ldx + k, n) * b;
    });
    for (int i = 0; i < R; ++i) y[i * ldy] = base[i * ldbase] + hsum(acc[i]);
}

// y[m][n] = base[m][n] + x[m][K] . w[n][K]; base may be y, or one row of addends with ldbase 0.
// R bounds the rows of a block: smaller where m is known to be.
template <int K, int R = ROWS, class T>
inline void dot_tile(float* y, int64_t ldy, const float* base, int64_t ldbase, const float* x,
                     int64_t ldx, const T* w, int64_t ldw, int64_t m, int64_t n) {
    row_blocks<R>(m, [&](int64_t i, auto r) {
        float* yi = y + i * ldy;
        const float* from = base + i * ldbase;
        const float* xi = x + i * ldx;
        int64_t j = 0, whole = n / COLS * COLS;
        for (; j < whole; j += COLS)
            dot_block<K, r()>(yi + j, ldy, from + j, ldbase, xi, ldx, w + j * ldw, ldw);
        for (; j < n; ++j)
            dot_column<K, r()>(yi + j, ldy, from + j, ldbase, xi, ldx, w + j * ldw);
    });
}

// y[R][V vectors, the last of L lanes] += a[R][k] b[k]
template <int R, int V, int L, class T>
inline void outer_block(float* __restrict y, int64_t ldy, const float* __restrict a, int64_t lda,
                        const T* __restrict b, int64_t ldb, int64_t k) {
    vf acc[R][V];
    for (int i = 0; i < R; ++i) {
        for (int j = 0; j + 1 < V; ++j) acc[i][j] = load(y + i * ldy + j * LANES);
        acc[i][V - 1] = load(y + i * ldy + (V - 1) * LANES, Lanes<L>{});
    }
    for (int64_t p = 0; p < k; ++p) {
        vf row[V];
        for (int j = 0; j + 1 < V; ++j) row[j] = load(b + p * ldb + j * LANES);
        row[V - 1] = load(b + p * ldb + (V - 1) * LANES, Lanes<L>{});
        for (int i = 0; i < R; ++i) {
            vf s = splat(a[i * lda + p]);
            for (int j = 0; j < V; ++j) acc[i][j] += s * row[j];
        }
    }
    for (int i = 0; i < R; ++i) {
        for (int j = 0; j + 1 < V; ++j) store(y + i * ldy + j * LANES, acc[i][j]);
        store(y + i * ldy + (V - 1) * LANES, acc[i][V - 1], Lanes<L>{});
    }
}

// y[m][N] += a[m][k] b[k][N]
template <int N, int R = ROWS, class T>
inline void outer_tile(float* y, int64_t ldy, const float* a, int64_t lda, const T* b,
                       int64_t ldb, int64_t m, int64_t k) {
    constexpr int BLOCK = COLS * LANES;
    constexpr int REST = N % BLOCK;
    row_blocks<R>(m, [&](int64_t i, auto r) {
        float* yi = y + i * ldy;
        const float* ai = a + i * lda;
        for (int j = 0; j + BLOCK <= N; j += BLOCK)
            outer_block<r(), COLS, LANES>(yi + j, ldy, ai, lda, b + j, ldb, k);
        if constexpr (REST > 0) {
            constexpr int V = (REST + LANES - 1) / LANES;
            constexpr int L = REST - (V - 1) * LANES;
            outer_block<r(), V, L>(yi + N - REST, ldy, ai, lda, b + N - REST, ldb, k);
        }
    });
}

}  // namespace sc
