// A feed-forward block packed by neuron: what one neuron needs lies together.
//   mlp_neurons<T, A, GATED, K, D>            decode: one x, neurons n0..n1
//   mlp_listed<T, A, GATED, KNOWN, K, D>      decode: one x, the neurons that a list names
//   mlp_values<T, A, GATED, GATE_ONLY, K, D>  decode: the values of neurons n0..n1, down unread
//   mlp_coarse<T, A, GATED, K, D>             decode: the same by the high planes alone
//   mlp_rows<T, A, GATED, K>                  decode: the same of neurons that lie in a matrix
//   add_coarse<T, GATED, K, D>                decode: adds listed neurons by the high plane of down
//   mlp_tile<T, A, GATED, K, D>               prefill: m rows of X, neurons n0..n1
// a_n = act(gate_n . x + gate_b[n]) * (up_n . x + up_b[n]), or act(up_n . x + up_b[n]);
// out = sum of a_n down_n. Biases are float[N] or null; the caller adds the bias of down.
// Decode's x is packed where T is quantised.
#pragma once
#include "act.h"
#include "linear.h"

namespace sc {

// What of a neuron is known before: nothing, its gate act(gate_n . x + gate_b[n]), or a_n.
enum class Known { nothing, gate, value };

// Neurons taken at once; workers' shares begin at multiples of it.
constexpr int NEURON_BLOCK = 4;

// Where the share of worker w of W begins in a list of `count` neurons; it ends where the next
// one's begins. Of a list of all neurons the shares are those of the dense kernel.
SC_INLINE int64_t listed_begin(int64_t count, int w, int W) {
    return min(count, (count + NEURON_BLOCK - 1) / NEURON_BLOCK * w / W * NEURON_BLOCK);
}

// How many neurons ahead to ask for, of each of which some bytes are read: 8 KiB, as a linear does.
constexpr int64_t neurons_ahead(int64_t bytes) { return max(NEURON_BLOCK, 8192 / bytes); }

// Of neurons in order, whether to ask for what comes next: short planes are left to the processor,
// which goes on by itself where they end.
template <class T, int K>
constexpr bool asks() {
    return !is_quantized<T> || Planes<K>::NIBBLES >= 512;
}

template <int K, bool ASK = true, class Row>
SC_INLINE float project(const float* x, Row row, Row next, const float* bias, int64_t n) {
    return hsum(dot_row<K, ASK ? K : 0>(x, row, next)) + (bias ? bias[n] : 0.0f);
}

// out[D] += the part of the R neurons which(0..R), of which known(r) is known. With ASK those of
// later(r) are asked for meanwhile.
template <class T, Act A, bool GATED, Known KNOWN, bool ASK, int K, int D, int R, class Which,
          class Later, class Value>
SC_INLINE void neuron_block(float* __restrict out, const float* __restrict x,
                            Neurons<T, GATED, K, D> w, const float* gate_b, const float* up_b,
                            Which which, Later later, Value known) {
    using Row = decltype(w.down(0));
    Row down[R], next[R];
    vf a{}, up{};
    for (int r = 0; r < R; ++r) {
        const int64_t n = which(r), then = later(r);
        down[r] = w.down(n);
        next[r] = w.down(then);
        if constexpr (KNOWN != Known::nothing)
            a[r] = known(r);
        else if constexpr (GATED)
            a[r] = project<K, ASK>(x, w.gate(n), w.gate(then), gate_b, n);
        if constexpr (KNOWN != Known::value)
            up[r] = project<K, ASK>(x, w.up(n), w.up(then), up_b, n);
    }
    if constexpr (KNOWN == Known::nothing) a = activate<A>(GATED ? a : up);
    if constexpr (KNOWN != Known::value && GATED) a *= up;
    float c[R];
    for (int r = 0; r < R; ++r) c[r] = a[r];
    add_rows<D, ASK>(out, c, down, next);
}

// out[D] = the part of neurons n0..n1; overwritten, 0 for an empty range.
template <class T, Act A, bool GATED, int K, int D>
inline void mlp_neurons(float* __restrict out, const float* __restrict x,
                        Neurons<T, GATED, K, D> w, const float* __restrict gate_b,
                        const float* __restrict up_b, int64_t n0, int64_t n1) {
    auto from = [](int64_t first) { return [first](int r) { return first + r; }; };
    auto add = [&](int64_t n, auto count) {
        constexpr int R = count;
        neuron_block<T, A, GATED, Known::nothing, asks<T, min(K, D)>(), K, D, R>(
            out, x, w, gate_b, up_b, from(n), from(n + R), [](int) { return 0.0f; });
    };
    std::memset(out, 0, D * sizeof *out);
    int64_t n = n0, whole = n0 + (n1 - n0) / NEURON_BLOCK * NEURON_BLOCK;
    for (; n < whole; n += NEURON_BLOCK) add(n, Lanes<NEURON_BLOCK>{});
    for (; n < n1; ++n) add(n, Lanes<1>{});
}

// out[D] += the part of the neurons list[0..count); known(i) is known of list[i].
template <class T, Act A, bool GATED, Known KNOWN, int K, int D, class Value>
SC_INLINE void add_listed(float* __restrict out, const float* __restrict x,
                          Neurons<T, GATED, K, D> w, const float* gate_b, const float* up_b,
                          const int32_t* list, int64_t count, Value known) {
    constexpr int PROJECTED = KNOWN == Known::value ? 0 : GATED && KNOWN == Known::nothing ? 2 : 1;
    constexpr int64_t AHEAD = neurons_ahead(PROJECTED * row_bytes<T, K>() + row_bytes<T, D>());
    auto from = [&](int64_t first) {
        return [=](int r) -> int64_t { return list[min(first + r, count - 1)]; };
    };
    auto add = [&](int64_t i, auto size) {
        constexpr int R = size;
        neuron_block<T, A, GATED, KNOWN, true, K, D, R>(out, x, w, gate_b, up_b, from(i),
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
                        const float* __restrict x, Neurons<T, GATED, K, D> w, const float* bias,
                        const int32_t* list, int64_t count, int64_t left) {
    constexpr int64_t AHEAD = neurons_ahead(row_bytes<T, K>());
    auto first = [&](int64_t n) { return GATED ? w.gate(n) : w.up(n); };
    int64_t found = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t n = list[i], later = list[min(i + AHEAD, left - 1)];
        const float sum = project<K>(x, first(n), first(later), bias, n);
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
                          Neurons<T, GATED, K, D> w, const float* __restrict gate_b,
                          const float* __restrict up_b, const int32_t* __restrict list,
                          const float* __restrict values, int64_t first, int64_t end) {
    const int64_t count = end - first;
    list += first;
    std::memset(out, 0, D * sizeof *out);
    if constexpr (KNOWN == Known::nothing && gives_zeros(A)) {
        constexpr int64_t CHUNK = 128, AHEAD = neurons_ahead(row_bytes<T, D>());
        constexpr Known FOUND = GATED ? Known::gate : Known::value;
        int32_t kept[CHUNK];
        float found[CHUNK];
        int64_t total = 0;
        for (int64_t i = 0; i < count; i += CHUNK) {
            const int64_t left = count - i;
            const int64_t n = alive<T, A, GATED, K, D>(kept, found, x, w, GATED ? gate_b : up_b,
                                                       list + i, min(CHUNK, left), left);
            for (int64_t j = 0; j < min(n, AHEAD); ++j) prefetch_row<D>(w.down(kept[j]));
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
inline void mlp_values(float* __restrict y, const float* __restrict x, Neurons<T, GATED, K, D> w,
                       const float* __restrict gate_b, const float* __restrict up_b, int64_t n0,
                       int64_t n1) {
    auto values = [&](int64_t first, auto count) {
        vf gate{}, up{};
        for (int r = 0; r < count; ++r) {
            const int64_t n = first + r, next = n + NEURON_BLOCK;
            if constexpr (GATED) gate[r] = project<K>(x, w.gate(n), w.gate(next), gate_b, n);
            if constexpr (!GATE_ONLY) up[r] = project<K>(x, w.up(n), w.up(next), up_b, n);
        }
        vf a = activate<A>(GATED ? gate : up);
        if constexpr (GATED && !GATE_ONLY) a *= up;
        store(y + first, a, count);
    };
    int64_t n = n0, whole = n0 + (n1 - n0) / NEURON_BLOCK * NEURON_BLOCK;
    for (; n < whole; n += NEURON_BLOCK) values(n, Lanes<NEURON_BLOCK>{});
    for (; n < n1; ++n) values(n, Lanes<1>{});
}

// y[n0..n1) = a_n of neurons whose rows lie in a matrix: of each that of gate, if gated, then up's.
template <class T, Act A, bool GATED, int K>
inline void mlp_rows(float* __restrict y, const float* __restrict x, Matrix<T, K> w,
                     const float* __restrict gate_b, const float* __restrict up_b, int64_t n0,
                     int64_t n1) {
    constexpr int PARTS = GATED ? 2 : 1;
    auto values = [&](int64_t first, auto count) {
        constexpr int ROWS = PARTS * count;
        float sums[ROWS];
        linear_rows<T, K>(sums, x, w.from(PARTS * first), nullptr, 0, ROWS);
        vf gate{}, up{};
        for (int r = 0; r < count; ++r) {
            gate[r] = sums[PARTS * r];
            up[r] = sums[PARTS * r + PARTS - 1];
        }
        if (up_b) up += load(up_b + first, count);
        if (GATED && gate_b) gate += load(gate_b + first, count);
        vf a = activate<A>(GATED ? gate : up);
        if constexpr (GATED) a *= up;
        store(y + first, a, count);
    };
    int64_t n = n0, whole = n0 + (n1 - n0) / LANES * LANES;
    for (; n < whole; n += LANES) values(n, Lanes<LANES>{});
    for (; n < n1; ++n) values(n, Lanes<1>{});
}

// What the high planes leave out of the products of neuron n, by a low-rank product: nothing, or
// z . the rows of n in a matrix that has one for each part (gate if gated, up).
struct Uncorrected {
    SC_INLINE vf operator()(int64_t) const { return vf{}; }
};
template <int RANK>
struct Correction {
    const float* z;  // packed
    Matrix<int4, RANK> rows;
    SC_INLINE vf operator()(int64_t row) const {
        return dot_coarse<RANK>(z, rows.row(row), rows.ahead(row));
    }
};

// y[n0..n1) = a_n by the high planes of gate and up, with what is known of the rest.
template <class T, Act A, bool GATED, int K, int D, class Rest>
inline void mlp_coarse(float* __restrict y, const float* __restrict x, Neurons<T, GATED, K, D> all,
                       const float* __restrict gate_b, const float* __restrict up_b, Rest rest,
                       int64_t n0, int64_t n1) {
    constexpr int PARTS = GATED ? 2 : 1;
    constexpr int64_t AHEAD = neurons_ahead(decltype(all)::FIRST);
    const auto w = all.coarse();
    auto values = [&](int64_t first, auto count) {
        vf gate[NEURON_BLOCK]{}, up[NEURON_BLOCK]{};
        for (int r = 0; r < count; ++r) {
            const int64_t n = first + r, later = n + AHEAD;
            if constexpr (GATED)
                gate[r] = dot_coarse<K>(x, w.gate(n), w.gate(later)) + rest(PARTS * n);
            up[r] = dot_coarse<K>(x, w.up(n), w.up(later)) + rest(PARTS * n + PARTS - 1);
        }
        auto sums = [&](const vf (&of)[NEURON_BLOCK], const float* bias) {
            vf sum{};
            store_quad(reinterpret_cast<float*>(&sum), hsum4(of[0], of[1], of[2], of[3]));
            return bias ? sum + load(bias + first, count) : sum;
        };
        vf a = activate<A>(GATED ? sums(gate, gate_b) : sums(up, up_b));
        if constexpr (GATED) a *= sums(up, up_b);
        store(y + first, a, count);
    };
    int64_t n = n0, whole = n0 + (n1 - n0) / NEURON_BLOCK * NEURON_BLOCK;
    for (; n < whole; n += NEURON_BLOCK) values(n, Lanes<NEURON_BLOCK>{});
    for (; n < n1; ++n) values(n, Lanes<1>{});
}

// out[D] += values[n] times the high plane of down, for the neurons n in list[first..end).
template <class T, bool GATED, int K, int D>
inline void add_coarse(float* __restrict out, Neurons<T, GATED, K, D> w,
                       const int32_t* __restrict list, const float* __restrict values,
                       int64_t first, int64_t end) {
    list += first;
    add_listed<int4, Act::identity, GATED, Known::value, K, D>(
        out, nullptr, w.coarse(), nullptr, nullptr, list, end - first,
        [&](int64_t i) { return values[list[i]]; });
}

// Y[m][D] += a[m][lda] . row(0..k), k <= TILE.
template <int D, class Row>
inline void rows_sum(float* y, int64_t ldy, const float* a, int64_t lda, Row row, int64_t m,
                     int64_t k) {
    constexpr int WIDTH = COLS * LANES;
    auto columns = [&](int d, auto width) {
        constexpr int W = width;
        alignas(64) float panel[TILE * WIDTH];
        for (int64_t p = 0; p < k; ++p) widen_part<W>(panel + p * WIDTH, row(p), d);
        outer_tile<W>(y + d, ldy, a, lda, panel, WIDTH, m, k);
    };
    for (int d = 0; d + WIDTH <= D; d += WIDTH) columns(d, Lanes<WIDTH>{});
    if constexpr (D % WIDTH != 0) columns(D / WIDTH * WIDTH, Lanes<D % WIDTH>{});
}

// OUT[i][D] = the part of neurons n0..n1 for row X[i], i < m; overwritten.
template <class T, Act A, bool GATED, int K, int D>
inline void mlp_tile(float* __restrict OUT, int64_t ldo, const float* __restrict X, int64_t ldx,
                     Neurons<T, GATED, K, D> w, const float* __restrict gate_b,
                     const float* __restrict up_b, int64_t m, int64_t n0, int64_t n1) {
    // Integers are packed anew for each block of neurons: it is a larger one.
    constexpr int NEURONS = multiplies_integers<T> ? 4 * TILE : TILE;
    alignas(64) float values[TILE * NEURONS], up[GATED ? TILE * NEURONS : 1];
    for (int64_t i = 0; i < m; ++i) std::memset(OUT + i * ldo, 0, D * sizeof *OUT);
    for (int64_t i0 = 0; i0 < m; i0 += TILE) {
        int64_t rows = min(TILE, m - i0);
        for (int64_t b = n0; b < n1; b += NEURONS) {
            int64_t count = min(NEURONS, n1 - b);
            auto project = [&](float* to, const float* bias, auto row) {
                rows_tile<T, K>(to, NEURONS, X + i0 * ldx, ldx, row, bias ? bias + b : nullptr,
                                rows, count);
            };
            auto ups = [&](int64_t n) { return w.up(b + n); };
            if constexpr (GATED) {
                project(values, gate_b, [&](int64_t n) { return w.gate(b + n); });
                project(up, up_b, ups);
            } else {
                project(values, up_b, ups);
            }
            for (int64_t j = 0; j < rows * NEURONS; j += LANES) {
                vf a = activate<A>(load(values + j));
                if constexpr (GATED) a *= load(up + j);
                store(values + j, a);
            }
            for (int64_t j = 0; j < count; j += TILE)
                rows_sum<D>(OUT + i0 * ldo, ldo, values + j, NEURONS,
                            [&](int64_t p) { return w.down(b + j + p); }, rows,
                            min(TILE, count - j));
        }
    }
}

}  // namespace sc
