// Rotary embedding of one head from table rows: y[i] = a[i] x[i] + b[i] x[partner(i)].
#pragma once
#include "simd.h"

namespace sc {

// Who turns with whom among the first R elements: i with i +- R/2, or i with i ^ 1.
enum class Pairing { half, interleaved };

// y[0..D) from x[0..D), table rows a and b of R floats; R is even, elements from R on are copied.
// y == x is allowed.
template <Pairing P, int D, int R>
inline void rope(float* y, const float* x, const float* __restrict a, const float* __restrict b) {
    static_assert(R % 2 == 0 && R <= D);
    if constexpr (P == Pairing::half) {
        constexpr int H = R / 2;
        each_vector<H>([&](int i, auto n) {
            vf low = load(x + i, n), high = load(x + i + H, n);
            store(y + i, load(a + i, n) * low + load(b + i, n) * high, n);
            store(y + i + H, load(a + i + H, n) * high + load(b + i + H, n) * low, n);
        });
    } else {
        each_vector<R>([&](int i, auto n) {
            vf v = load(x + i, n);
            store(y + i, load(a + i, n) * v + load(b + i, n) * shuffle(v, v, SwapPairs{}), n);
        });
    }
    if (y != x) std::memcpy(y + R, x + R, (D - R) * sizeof *y);
}

}  // namespace sc
