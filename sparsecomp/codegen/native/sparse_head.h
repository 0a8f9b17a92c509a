// Logits: exact for the listed rows of the vocabulary, from their scores for all others.
#pragma once
#include "linear.h"
#include "mlp.h"

namespace sc {

// This worker's share of y[N]: W[n] . x[K] + bias[n] for its part of the list, scores[n] + offset
// for what lies from its first entry to the next worker's. x is packed where T is quantised.
// The sums are those of linear_rows.
template <class T, int N, int K>
inline void head_listed(float* __restrict y, const float* __restrict x, Matrix<T, K> w,
                        const float* __restrict bias, const float* __restrict scores, float offset,
                        const int32_t* __restrict list, int worker, int workers) {
    constexpr int64_t AHEAD = 8;  // rows to ask for before they are needed
    const int64_t all = list[0];
    const int64_t first = listed_begin(all, worker, workers);
    const int64_t end = listed_begin(all, worker + 1, workers);
    const int32_t* const at = list + 1;
    const int64_t from = worker == 0 ? 0 : first < all ? at[first] : N;
    const int64_t to = worker + 1 < workers && end < all ? at[end] : N;
    for (int64_t i = first; i < min(first + AHEAD, end); ++i) prefetch_row<K>(w.row(at[i]));
    for (int64_t n = from; n < to; ++n) y[n] = scores[n] + offset;
    for (int64_t i = first; i < end; i += 4) {
        vf sums[4];
        for (int64_t j = 0; j < 4; ++j) {
            // What is missing of the last four repeats the last.
            const int64_t n = min(i + j, end - 1), ahead = min(i + j + AHEAD, end - 1);
            sums[j] = dot_row<K>(x, w.row(at[n]), w.row(at[ahead]));
        }
        const quad exact = hsum4(sums[0], sums[1], sums[2], sums[3]);
        for (int64_t j = 0; j < min(4, end - i); ++j) {
            const int64_t n = at[i + j];
            y[n] = exact[j] + (bias ? bias[n] : 0.0f);
        }
    }
}

}  // namespace sc
