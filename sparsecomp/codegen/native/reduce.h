// Sums what the workers left in their own buffers.
#pragma once
#include "simd.h"

namespace sc {

// y[D] = residual + bias + sum of parts[w * stride .. + D) for w < W.
// bias and residual are float[D] or null; residual == y is allowed.
template <int W, int D>
inline void sum_partials(float* y, const float* __restrict parts, int64_t stride,
                         const float* __restrict bias, const float* residual) {
    each_vector<D>([&](int i, auto n) {
        vf sum = load(parts + i, n);
        for (int w = 1; w < W; ++w) sum += load(parts + w * stride + i, n);
        if (bias) sum += load(bias + i, n);
        if (residual) sum += load(residual + i, n);
        store(y + i, sum, n);
    });
}

}  // namespace sc
