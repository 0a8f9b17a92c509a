// A feed-forward block packed by neuron: what one neuron needs lies together.
//   mlp_neurons<T, A, GATED, K, D>            decode: one x, neurons n0..n1
//   mlp_listed<T, A, GATED, KNOWN, K, D>      decode: one x, the neurons that a list names
//   mlp_values<T, A, GATED, GATE_ONLY, K, D>  decode: the values of neurons n0..n1, down unread
//   mlp_tile<T, A, GATED, K, D>               prefill: m rows of X, neurons n0..n1
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

// What of a neuron is known before: nothing, its gate act(gate_n . x + gate_b[n]), or a_n.
enum class Known { nothing, gate, value };

// Neurons taken at once; workers' shares begin at multiples of it.
constexpr int NEURON_BLOCK = 4;

// Where the share of worker w of W begins in a list of `count` neurons; it ends where the next
// one's begins. Of a list of all neurons the shares are those of the dense kernel.
SC_INLINE int64_t listed_begin(int64_t count, int w, int W) {
    return min(count, (count + NEURON_BLOCK - 1) / NEURON_BLOCK * w / W * NEURON_BLOCK);
}

// How many neurons ahead to ask for, of each of which N elements are read: 8 KiB, as a linear does.
template <class T, int N>
constexpr int64_t neurons_ahead() {
    return max(NEURON_BLOCK, 8192 / (N * sizeof(T)));
}

template <int K, class T>
SC_INLINE float project(const float* x, const T* row, const T* next, const float* bias,
                        int64_t n) {
    return hsum(dot_row<K>(x, row, next)) + (bias ? bias[n] : 0.0f);
}

// out[D] += the part of the R neurons which(0..R), of which known(r) is known. Those of later(r)
// are asked for meanwhile.
template <class T, Act A, bool GATED, Known KNOWN, int K, int D, int R, class Which, class Later,
          class Value>
SC_INLINE void neuron_block(float* __restrict out, const float* __restrict x,
                            const T* __restrict w, const float* gate_b, const float* up_b,
                            Which which, Later later, Value known) {
    using L = Neuron<T, GATED, K, D>;
    const T *row[R], *next[R];
    vf a{}, up{};
    for (int r = 0; r < R; ++r) {
        const int64_t n = which(r);
        row[r] = w + n * L::STRIDE;
        next[r] = w + later(r) * L::STRIDE;
        if constexpr (KNOWN != Known::nothing)
            a[r] = known(r);
        else if constexpr (GATED)
            a[r] = project<K>(x, row[r] + L::GATE, next[r] + L::GATE, gate_b, n);
        if constexpr (KNOWN != Known::value)
            up[r] = project<K>(x, row[r] + L::UP, next[r] + L::UP, up_b, n);
    }
    if constexpr (KNOWN == Known::nothing) a = activate<A>(GATED ? a : up);
    if constexpr (KNOWN != Known::value && GATED) a *= up;
    vf s[R];
    for (int r = 0; r < R; ++r) s[r] = splat(a[r]);
    each_vector<D>([&](int d, auto n) {
        vf y = load(out + d, n);
        for (int r = 0; r < R; ++r) {
            if (d % L::ALIGN == 0) prefetch<1>(next[r] + L::DOWN + d);
            y += s[r] * load(row[r] + L::DOWN + d, n);
        }
        store(out + d, y, n);
    });
}

// out[D] = the part of neurons n0..n1; overwritten, 0 for an empty range.
template <class T, Act A, bool GATED, int K, int D>
inline void mlp_neurons(float* __restrict out, const float* __restrict x, const T* __restrict w,
                        const float* __restrict gate_b, const float* __restrict up_b, int64_t n0,
                        int64_t n1) {
    auto from = [](int64_t first) { return [first](int r) { return first + r; }; };
    auto add = [&](int64_t n, auto count) {
        constexpr int R = count;
        neuron_block<T, A, GATED, Known::nothing, K, D, R>(out, x, w, gate_b, up_b, from(n),
                                                           from(n + R), [](int) { return 0.0f; });
    };
    std::memset(out, 0, D * sizeof *out);
    int64_t n = n0, whole = n0 + (n1 - n0) / NEURON_BLOCK * NEURON_BLOCK;
    for (; n < whole; n += NEURON_BLOCK) add(n, Lanes<NEURON_BLOCK>{});
    for (; n < n1; ++n) add(n, Lanes<1>{});
}

// out[D] += the part of the neurons list[0..count); known(i) is known of list[i].
template <class T, Act A, bool GATED, Known KNOWN, int K, int D, class Value>
SC_INLINE void add_listed(float* __restrict out, const float* __restrict x,
                          const T* __restrict w, const float* gate_b, const float* up_b,
                          const int32_t* list, int64_t count, Value known) {
    constexpr int PROJECTED = KNOWN == Known::value ? 0 : GATED && KNOWN == Known::nothing ? 2 : 1;
    constexpr int64_t AHEAD = neurons_ahead<T, PROJECTED * K + D>();
    auto from = [&](int64_t first) {
        return [=](int r) -> int64_t { return list[min(first + r, count - 1)]; };
    };
    auto add = [&](int64_t i, auto size) {
        constexpr int R = size;
        neuron_block<T, A, GATED, KNOWN, K, D, R>(out, x, w, gate_b, up_b, from(i),
                                                  from(i + AHEAD),
                                                  [&](int r) { return known(i + r); });
    };
    int64_t i = 0, whole = count / NEURON_BLOCK * NEURON_BLOCK;
    for (; i < whole; i += NEURON_BLOCK) add(i, Lanes<NEURON_BLOCK>{});
    for (; i < count; ++i) add(i, Lanes<1>{});
}

// Of the neurons list[0..count) those whose activation is not 0: kept[], with their activations
// in values[]. Returns how many. Reads their gates, or up where there is no gate, and asks for
// those of the `left` entries of the list meanwhile.
template <class T, Act A, bool GATED, int K, int D>
SC_INLINE int64_t alive(int32_t* __restrict kept, float* __restrict values,
                        const float* __restrict x, const T* __restrict w, const float* bias,
                        const int32_t* list, int64_t count, int64_t left) {
    constexpr int64_t STRIDE = Neuron<T, GATED, K, D>::STRIDE;
    constexpr int64_t AHEAD = neurons_ahead<T, K>();
    int64_t found = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t n = list[i], later = list[min(i + AHEAD, left - 1)];
        const float sum = project<K>(x, w + n * STRIDE, w + later * STRIDE, bias, n);
        const float a = activate<A>(splat(sum))[0];
        kept[found] = static_cast<int32_t>(n);
        values[found] = a;
        found += a != 0.0f;
    }
    return found;
}

// out[D] = the part of the neurons list[first..end); overwritten. values[n] is what is known of
// neuron n. Returns how many neurons were read to their end.
template <class T, Act A, bool GATED, Known KNOWN, int K, int D>
inline int64_t mlp_listed(float* __restrict out, const float* __restrict x,
                          const T* __restrict w, const float* __restrict gate_b,
                          const float* __restrict up_b, const int32_t* __restrict list,
                          const float* __restrict values, int64_t first, int64_t end) {
    const int64_t count = end - first;
    list += first;
    std::memset(out, 0, D * sizeof *out);
    if constexpr (KNOWN == Known::nothing && gives_zeros(A)) {
        using L = Neuron<T, GATED, K, D>;
        constexpr int64_t CHUNK = 128;
        constexpr Known FOUND = GATED ? Known::gate : Known::value;
        int32_t kept[CHUNK];
        float found[CHUNK];
        int64_t total = 0;
        for (int64_t i = 0; i < count; i += CHUNK) {
            const int64_t left = count - i;
            const int64_t n = alive<T, A, GATED, K, D>(kept, found, x, w, GATED ? gate_b : up_b,
                                                       list + i, min(CHUNK, left), left);
            for (int64_t j = 0; j < min(n, neurons_ahead<T, D>()); ++j)
                prefetch<D>(w + kept[j] * L::STRIDE + L::DOWN);
            add_listed<T, A, GATED, FOUND, K, D>(out, x, w, gate_b, up_b, kept, n,
                                                 [&](int64_t j) { return found[j]; });
            total += n;
        }
        return total;
    } else {
        add_listed<T, A, GATED, KNOWN, K, D>(
            out, x, w, gate_b, up_b, list, count,
            [&](int64_t i) { return KNOWN == Known::nothing ? 0.0f : values[list[i]]; });
        return count;
    }
}

// y[n0..n1) = a_n, or with GATE_ONLY the gates' activations.
template <class T, Act A, bool GATED, bool GATE_ONLY, int K, int D>
inline void mlp_values(float* __restrict y, const float* __restrict x, const T* __restrict w,
                       const float* __restrict gate_b, const float* __restrict up_b, int64_t n0,
                       int64_t n1) {
    using L = Neuron<T, GATED, K, D>;
    auto values = [&](int64_t first, auto count) {
        vf gate{}, up{};
        for (int r = 0; r < count; ++r) {
            const int64_t n = first + r;
            const T *row = w + n * L::STRIDE, *next = row + NEURON_BLOCK * L::STRIDE;
            if constexpr (GATED) gate[r] = project<K>(x, row + L::GATE, next + L::GATE, gate_b, n);
            if constexpr (!GATE_ONLY) up[r] = project<K>(x, row + L::UP, next + L::UP, up_b, n);
        }
        vf a = activate<A>(GATED ? gate : up);
        if constexpr (GATED && !GATE_ONLY) a *= up;
        store(y + first, a, count);
    };
    int64_t n = n0, whole = n0 + (n1 - n0) / NEURON_BLOCK * NEURON_BLOCK;
    for (; n < whole; n += NEURON_BLOCK) values(n, Lanes<NEURON_BLOCK>{});
    for (; n < n1; ++n) values(n, Lanes<1>{});
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
