// Folds along one row of N floats, its largest elements, elements by index: what no larger kernel covers.
#pragma once
#include "simd.h"

namespace sc {

enum class Fold { sum, mean, max, min, softmax };

// y[0] = fold of x[0..N); softmax: y[0..N), y == x allowed.
template <Fold F, int N>
inline void fold_row(float* y, const float* x) {
    if constexpr (F == Fold::softmax) {
        float top = x[0], sum = 0.0f;
        for (int i = 1; i < N; ++i) top = x[i] > top ? x[i] : top;
        for (int i = 0; i < N; ++i) sum += y[i] = exp(x[i] - top);
        for (int i = 0; i < N; ++i) y[i] /= sum;
    } else {
        float a = x[0];
        for (int i = 1; i < N; ++i) {
            if constexpr (F == Fold::max) a = x[i] > a ? x[i] : a;
            if constexpr (F == Fold::min) a = x[i] < a ? x[i] : a;
            if constexpr (F == Fold::sum || F == Fold::mean) a += x[i];
        }
        y[0] = F == Fold::mean ? a / N : a;
    }
}

// The C largest of x[0..N), largest first, equal ones in order: y[0..C) values, then indices.
template <int N, int C>
inline void top_k(float* y, const float* __restrict x) {
    static_assert(C <= N);
    int filled = 0;
    for (int i = 0; i < N; ++i) {
        if (filled == C && !(x[i] > y[C - 1])) continue;
        int at = filled < C ? filled++ : C - 1;
        for (; at > 0 && x[i] > y[at - 1]; --at) {
            y[at] = y[at - 1];
            y[C + at] = y[C + at - 1];
        }
        y[at] = x[i];
        y[C + at] = static_cast<float>(i);
    }
}

// y[j] = x[index[j]] for j < C.
template <int C>
inline void gather(float* __restrict y, const float* __restrict x, const float* __restrict index) {
    for (int j = 0; j < C; ++j) y[j] = x[static_cast<int64_t>(index[j])];
}

// y[0..N) = x, but y[index[j]] = value for j < C.
template <int N, int C>
inline void scatter(float* __restrict y, const float* __restrict x, const float* __restrict index,
                    float value) {
    std::memcpy(y, x, N * sizeof *y);
    for (int j = 0; j < C; ++j) y[static_cast<int64_t>(index[j])] = value;
}

}  // namespace sc
