// Logits: exact for the listed rows of the vocabulary, from their scores for all others.
#pragma once
#include "linear.h"

namespace sc {

// This worker's share of y[N]: W[n] . x[K] + bias[n] for its turns of the list, scores[n] + offset
// for what lies from the first entry of a turn to that of the next. Frequent tokens come first in
// most vocabularies: half of a list may lie in a tenth of one, so workers take turns at it. x is
// packed where T is quantised. The sums are those of linear_rows. Rows are asked for in bursts:
// asked for one by one, between products, they took a tenth longer. Scores are copied on the way,
// while memory gives the rows.
template <class T, int N, int K>
inline void head_listed(float* __restrict y, const float* __restrict x, Matrix<T, K> w,
                        const float* __restrict bias, const float* __restrict scores, float offset,
                        const int32_t* __restrict list, int worker, int workers) {
    constexpr int64_t TURN = 32, BURST = 4, AHEAD = 2 * BURST;  // rows
    const int64_t all = list[0];
    const int32_t* const at = list + 1;
    // Where in the list the j-th row of this worker is.
    auto entry = [&](int64_t j) SC_ALWAYS {
        return (j / TURN * workers + worker) * TURN + j % TURN;
    };
    auto ask = [&](int64_t j) SC_ALWAYS {
        for (int64_t i = entry(j), end = min(i + BURST, all); i < end; ++i)
            prefetch_row<K>(w.row(at[i]));
    };
    auto copy = [&](int64_t from, int64_t to) SC_ALWAYS {
        for (int64_t n = from; n < to; ++n) y[n] = scores[n] + offset;
    };
    if (worker == 0) copy(0, all > 0 ? at[0] : N);
    for (int64_t j = 0; j < AHEAD; j += BURST) ask(j);
    for (int64_t j = 0, i; (i = entry(j)) < all; j += BURST) {
        const int64_t end = min(i + BURST, all);
        ask(j + AHEAD);
        copy(at[i], end < all ? at[end] : N);
        vf sums[BURST];
        for (int64_t r = 0; r < BURST; r += 2) {
            // What is missing of the last four repeats the last.
            const typename Matrix<T, K>::Row rows[] = {w.row(at[min(i + r, end - 1)]),
                                                       w.row(at[min(i + r + 1, end - 1)])};
            dot_rows<K, 0>(sums + r, x, rows, rows);
        }
        const quad exact = hsum4(sums[0], sums[1], sums[2], sums[3]);
        for (int64_t r = 0; i + r < end; ++r) {
            const int64_t n = at[i + r];
            y[n] = exact[r] + (bias ? bias[n] : 0.0f);
        }
    }
}

}  // namespace sc
