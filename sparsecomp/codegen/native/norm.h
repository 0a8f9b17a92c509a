// Normalisation of one row of D floats, f32 weights; y == x is allowed.
#pragma once
#include <cmath>

#include "simd.h"

namespace sc {

// y = x / sqrt(mean(x^2) + eps) * w; w is float[D] or null.
template <int D>
inline void rms_norm(float* y, const float* x, const float* __restrict w, float eps) {
    vf squares{};
    each_vector<D>([&](int i, auto n) {
        vf v = load(x + i, n);
        squares += v * v;
    });
    float scale = 1.0f / std::sqrt(hsum(squares) / D + eps);
    each_vector<D>([&](int i, auto n) {
        vf v = load(x + i, n) * scale;
        store(y + i, w ? v * load(w + i, n) : v, n);
    });
}

// y = (x - mean(x)) / sqrt(var(x) + eps) * w + b; w and b are float[D] or null.
template <int D>
inline void layer_norm(float* y, const float* x, const float* __restrict w,
                       const float* __restrict b, float eps) {
    vf sum{};
    each_vector<D>([&](int i, auto n) { sum += load(x + i, n); });
    float mean = hsum(sum) / D;
    vf squares{};
    each_vector<D>([&](int i, auto n) {
        vf v = keep(load(x + i, n) - mean, n);
        squares += v * v;
    });
    float scale = 1.0f / std::sqrt(hsum(squares) / D + eps);
    each_vector<D>([&](int i, auto n) {
        vf v = (load(x + i, n) - mean) * scale;
        if (w) v *= load(w + i, n);
        if (b) v += load(b + i, n);
        store(y + i, v, n);
    });
}

}  // namespace sc
