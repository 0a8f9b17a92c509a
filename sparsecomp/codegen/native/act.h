// Activation functions on vectors.
#pragma once
#include "simd.h"

namespace sc {

enum class Act { relu, relu2, silu, gelu_erf, gelu_tanh, quick_gelu, identity, sigmoid, tanh };

// Whether what is not positive becomes exactly 0.
constexpr bool gives_zeros(Act a) { return a == Act::relu || a == Act::relu2; }

template <Act A>
SC_INLINE vf activate(vf x) {
    if constexpr (A == Act::relu) return vmax(x, vf{});
    if constexpr (A == Act::relu2) {
        vf r = vmax(x, vf{});
        return r * r;
    }
    if constexpr (A == Act::silu) return x * sigmoid(x);
    if constexpr (A == Act::gelu_erf) return 0.5f * x * (1.0f + erf(x * 0.70710678f));
    if constexpr (A == Act::gelu_tanh)
        return 0.5f * x * (1.0f + tanh(0.79788456f * (x + 0.044715f * x * x * x)));
    if constexpr (A == Act::quick_gelu) return x * sigmoid(1.702f * x);
    if constexpr (A == Act::identity) return x;
    if constexpr (A == Act::sigmoid) return sigmoid(x);
    if constexpr (A == Act::tanh) return tanh(x);
}

// y[0..N) = act(x); y == x is allowed.
template <Act A, int N>
inline void activate_row(float* y, const float* x) {
    each_vector<N>([&](int i, auto n) { store(y + i, activate<A>(load(x + i, n)), n); });
}

// y[0..N) = act(x) * up.
template <Act A, int N>
inline void gate_row(float* y, const float* x, const float* up) {
    each_vector<N>(
        [&](int i, auto n) { store(y + i, activate<A>(load(x + i, n)) * load(up + i, n), n); });
}

}  // namespace sc
