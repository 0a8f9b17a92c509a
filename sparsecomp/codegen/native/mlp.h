// A feed-forward block packed by neuron: what one neuron needs lies together.
//   mlp_neurons<T, A, GATED, K, D>  decode: one x, neurons n0..n1
//   mlp_tile<T, A, GATED, K, D>     prefill: m rows of X, neurons n0..n1
// a_n = act(gate_n . x + gate_b[n]) * (up_n . x + up_b[n]), or act(up_n . x + up_b[n]);
// out = sum of a_n down_n. Biases are float[N] or null; the caller adds the bias of down.
#pragma once
#include "act.h"
#include "linear.h"

namespace sc {

// One neuron: [gate row K (gated only) | up row K | down row D], each part padded to 64 bytes.
// Offsets and the stride from neuron to neuron count elements of T.
template <class T, bool GATED, int K, int D>
struct Neuron {
    static constexpr int64_t ALIGN = 64 / sizeof(T);
    static constexpr int64_t GATE = 0;
    static constexpr int64_t UP = GATED ? round_up(K, ALIGN) : 0;
    static constexpr int64_t DOWN = UP + round_up(K, ALIGN);
    static constexpr int64_t STRIDE = DOWN + round_up(D, ALIGN);
};

// out[D] += the part of R neurons `first`..; the R neurons from `next` on are asked for meanwhile.
template <class T, Act A, bool GATED, int K, int D, int R>
SC_INLINE void neuron_block(float* __restrict out, const float* __restrict x,
                            const T* __restrict w, const float* gate_b, const float* up_b,
                            int64_t first, int64_t next) {
    using L = Neuron<T, GATED, K, D>;
    const T *rows = w + first * L::STRIDE, *later = w + next * L::STRIDE;
    auto project = [&](int r, int64_t part, const float* bias) {
        int64_t at = r * L::STRIDE + part;
        return hsum(dot_row<K>(x, rows + at, later + at)) + (bias ? bias[first + r] : 0.0f);
    };
    vf gate{}, up{};
    for (int r = 0; r < R; ++r) {
        if constexpr (GATED) gate[r] = project(r, L::GATE, gate_b);
        up[r] = project(r, L::UP, up_b);
    }
    vf a = GATED ? activate<A>(gate) * up : activate<A>(up);
    vf s[R];
    for (int r = 0; r < R; ++r) s[r] = splat(a[r]);
    each_vector<D>([&](int d, auto n) {
        vf y = load(out + d, n);
        for (int r = 0; r < R; ++r) {
            int64_t at = r * L::STRIDE + L::DOWN + d;
            if (at % L::ALIGN == 0) prefetch<1>(later + at);
            y += s[r] * load(rows + at, n);
        }
        store(out + d, y, n);
    });
}

// out[D] = the part of neurons n0..n1; overwritten, 0 for an empty range.
template <class T, Act A, bool GATED, int K, int D>
inline void mlp_neurons(float* __restrict out, const float* __restrict x, const T* __restrict w,
                        const float* __restrict gate_b, const float* __restrict up_b, int64_t n0,
                        int64_t n1) {
    constexpr int R = 4;
    std::memset(out, 0, D * sizeof *out);
    int64_t n = n0, whole = n0 + (n1 - n0) / R * R;
    for (; n < whole; n += R)
        neuron_block<T, A, GATED, K, D, R>(out, x, w, gate_b, up_b, n, n + R);
    for (; n < n1; ++n) neuron_block<T, A, GATED, K, D, 1>(out, x, w, gate_b, up_b, n, n + 1);
}

// Y[m][D] += a[m][lda] . the rows of T in w[k], `stride` elements apart.
template <int D, class T>
inline void rows_sum(float* y, int64_t ldy, const float* a, int64_t lda, const T* w,
                     int64_t stride, int64_t m, int64_t k) {
    constexpr int64_t BLOCK = COLS * LANES;
    constexpr int REST = D % BLOCK;
    alignas(64) float panel[TILE * BLOCK];
    for (int d = 0; d + BLOCK <= D; d += BLOCK) {
        for (int64_t p = 0; p < k; ++p) widen_row<BLOCK>(panel + p * BLOCK, w + p * stride + d);
        outer_tile<BLOCK>(y + d, ldy, a, lda, panel, BLOCK, m, k);
    }
    if constexpr (REST > 0) {
        constexpr int d = D - REST;
        for (int64_t p = 0; p < k; ++p) widen_row<REST>(panel + p * BLOCK, w + p * stride + d);
        outer_tile<REST>(y + d, ldy, a, lda, panel, BLOCK, m, k);
    }
}

// OUT[i][D] = the part of neurons n0..n1 for row X[i], i < m; overwritten.
template <class T, Act A, bool GATED, int K, int D>
inline void mlp_tile(float* __restrict OUT, int64_t ldo, const float* __restrict X, int64_t ldx,
                     const T* __restrict w, const float* __restrict gate_b,
                     const float* __restrict up_b, int64_t m, int64_t n0, int64_t n1) {
    using L = Neuron<T, GATED, K, D>;
    constexpr int NEURONS = TILE;
    alignas(64) float values[TILE * NEURONS], up[GATED ? TILE * NEURONS : 1];
    for (int64_t i = 0; i < m; ++i) std::memset(OUT + i * ldo, 0, D * sizeof *OUT);
    for (int64_t i0 = 0; i0 < m; i0 += TILE) {
        int64_t rows = min(TILE, m - i0);
        const float* x = X + i0 * ldx;
        for (int64_t b = n0; b < n1; b += NEURONS) {
            int64_t count = min(NEURONS, n1 - b);
            auto project = [&](float* to, int64_t part, const float* bias) {
                for (int64_t j = 0; j < count; j += PANEL_ROWS)
                    rows_dot<K>(to + j, NEURONS, bias ? bias + b + j : ZEROS, 0, x, ldx,
                                w + (b + j) * L::STRIDE + part, L::STRIDE, rows,
                                min(PANEL_ROWS, count - j));
            };
            if constexpr (GATED) {
                project(values, L::GATE, gate_b);
                project(up, L::UP, up_b);
            } else {
                project(values, L::UP, up_b);
            }
            for (int64_t j = 0; j < rows * NEURONS; j += LANES) {
                vf a = activate<A>(load(values + j));
                if constexpr (GATED) a *= load(up + j);
                store(values + j, a);
            }
            rows_sum<D>(OUT + i0 * ldo, ldo, values, NEURONS, w + b * L::STRIDE + L::DOWN,
                        L::STRIDE, rows, count);
        }
    }
}

}  // namespace sc
