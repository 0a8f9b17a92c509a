// A linear of which only listed blocks are read: equal blocks of its outputs, or of its inputs.
//   linear_listed_rows<T, K, SIZE, BLOCKS>  outputs: W [BLOCKS * SIZE][K], row by row
//   linear_listed_columns<T, N, SIZE>       inputs: W [N][blocks * SIZE], stored by columns
// x is packed for linear_listed_rows where T is quantised.
// Workers share the rows (columns) within each block, so that any list is shared evenly.
// `list` is a count, then that many blocks, ascending.
#pragma once
#include "linear.h"

namespace sc {

// y[b * SIZE + n0 .. b * SIZE + n1) for every block b: the rows of W . x[K] + bias when b is
// listed, else 0.
template <class T, int K, int SIZE, int BLOCKS>
inline void linear_listed_rows(float* __restrict y, const float* __restrict x,
                               Matrix<T, K> w, const float* __restrict bias,
                               const int32_t* __restrict list, int64_t n0, int64_t n1) {
    constexpr int64_t AHEAD = Matrix<T, K>::AHEAD;
    const int32_t *next = list + 1, *end = next + list[0];
    for (int64_t b = 0; b < BLOCKS; ++b) {
        int64_t first = b * SIZE + n0, last = b * SIZE + n1;
        if (next == end || *next != b) {
            std::memset(y + first, 0, (last - first) * sizeof *y);
            continue;
        }
        ++next;
        // After the last row come those of the next listed block.
        int64_t later = next == end ? first : *next * SIZE + n0;
        rows_with<T, K, Matrix<T, K>::ASK_LISTED>(y, x, w, bias, first, last, [&](int64_t n) {
            int64_t ahead = n + AHEAD;
            return w.row(ahead < last ? ahead : later + (ahead - last));
        });
    }
}

// out[N] = the sum of x[k] column k of W over the columns b * SIZE + k0 <= k < b * SIZE + k1 of
// every listed block b.
template <class T, int N, int SIZE>
inline void linear_listed_columns(float* __restrict out, const float* __restrict x,
                                  Columns<T, N> w, const int32_t* __restrict list, int64_t k0,
                                  int64_t k1) {
    std::memset(out, 0, N * sizeof *out);
    // Adds `count` columns from k on; meanwhile it asks for as many from `later` on.
    auto add = [&](int64_t k, int64_t later, auto count) {
        using Row = decltype(w.row(0));
        Row columns[count()], next[count()];
        for (int r = 0; r < count; ++r) columns[r] = w.row(k + r), next[r] = w.row(later + r);
        add_rows<N>(out, x + k, columns, next);
    };
    constexpr int R = 4;
    for (int32_t i = 1; i <= list[0]; ++i) {
        int64_t k = list[i] * SIZE + k0, end = k + (k1 - k0), whole = k + (k1 - k0) / R * R;
        int64_t later = i < list[0] ? list[i + 1] * SIZE + k0 : k;
        for (; k < whole; k += R) add(k, k + R < end ? k + R : later, Lanes<R>{});
        for (; k < end; ++k) add(k, k + 1 < end ? k + 1 : later, Lanes<1>{});
    }
}

}  // namespace sc
