// Logits: exact for the listed rows of the vocabulary, from their scores for all others.
#pragma once
#include "linear.h"
#include "mlp.h"

namespace sc {

// This worker's share of y[N]: W[n] . x[K] + bias[n] for its part of the list, scores[n] + offset
// for what lies from its first entry to the next worker's. x is packed where T is quantised.
// The sums are those of linear_rows. Rows are asked for in bursts: asked for one by one, between
// products, they took a tenth longer. Scores are copied on the way, while memory gives the rows.
template <class T, int N, int K>
inline void head_listed(float* __restrict y, const float* __restrict x, Matrix<T, K> w,
                        const float* __restrict bias, const float* __restrict scores, float offset,
                        const int32_t* __restrict list, int worker, int workers) {
    constexpr int64_t BURST = 4, AHEAD = 2 * BURST;  // rows
    const int64_t all = list[0];
    const int64_t first = listed_begin(all, worker, workers);
    const int64_t end = listed_begin(all, worker + 1, workers);
    const int32_t* const at = list + 1;
    auto ask = [&](int64_t from, int64_t to) SC_ALWAYS {
        for (int64_t i = from; i < min(to, end); ++i) prefetch_row<K>(w.row(at[i]));
    };
    auto copy = [&](int64_t from, int64_t to) SC_ALWAYS {
        for (int64_t n = from; n < to; ++n) y[n] = scores[n] + offset;
    };
    const int64_t stop = worker + 1 < workers && end < all ? at[end] : N;
    int64_t copied = worker == 0 ? 0 : first < all ? at[first] : N;
    ask(first, first + AHEAD);
    for (int64_t i = first; i < end; i += BURST) {
        ask(i + AHEAD, i + AHEAD + BURST);
        const int64_t next = i + BURST < end ? at[i + BURST] : stop;
        copy(copied, next);
        copied = next;
        vf sums[BURST];
        for (int64_t j = 0; j < BURST; j += 2) {
            // What is missing of the last four repeats the last.
            const typename Matrix<T, K>::Row rows[] = {w.row(at[min(i + j, end - 1)]),
                                                       w.row(at[min(i + j + 1, end - 1)])};
            dot_rows<K, 0>(sums + j, x, rows, rows);
        }
        const quad exact = hsum4(sums[0], sums[1], sums[2], sums[3]);
        for (int64_t j = 0; j < min(BURST, end - i); ++j) {
            const int64_t n = at[i + j];
            y[n] = exact[j] + (bias ? bias[n] : 0.0f);
        }
    }
    copy(copied, stop);
}

}  // namespace sc
