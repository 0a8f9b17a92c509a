// Logits: exact for the listed rows of the vocabulary, from their scores for all others.
#pragma once
#include "linear.h"
#include "turns.h"

namespace sc {

// This worker's share of y[N]: W[n] . x[K] + bias[n] for the listed rows, scores[n] + offset for the
// others. x is packed where T is quantised. The sums are those of linear_rows. Scores are copied on
// the way, while memory gives the rows.
template <class T, int N, int K>
inline void head_listed(float* __restrict y, const float* __restrict x, Matrix<T, K> w,
                        const float* __restrict bias, const float* __restrict scores, float offset,
                        const int32_t* __restrict list, int worker, int workers) {
    auto ask = [&](int64_t n) SC_ALWAYS { prefetch_row<K>(w.row(n)); };
    auto copy = [&](int64_t n0, int64_t n1) SC_ALWAYS {
        for (int64_t n = n0; n < n1; ++n) y[n] = scores[n] + offset;
    };
    auto read = [&](const int32_t* at, int64_t count) SC_ALWAYS {
        vf sums[4];
        for (int64_t r = 0; r < 4; r += 2) {
            // What is missing of the last four repeats the last.
            const typename Matrix<T, K>::Row rows[] = {w.row(at[min(r, count - 1)]),
                                                       w.row(at[min(r + 1, count - 1)])};
            dot_rows<K, 0>(sums + r, x, rows, rows);
        }
        const quad exact = hsum4(sums[0], sums[1], sums[2], sums[3]);
        for (int64_t r = 0; r < count; ++r) {
            const int64_t n = at[r];
            y[n] = exact[r] + (bias ? bias[n] : 0.0f);
        }
    };
    take_turns<N, 8>(list, worker, workers, ask, copy, read);
}

}  // namespace sc
