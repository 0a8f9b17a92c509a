// A row of quantised weights, int8 or int4, as the kernels use it: what row.h does for float.
//   QuantizedRow<T, K>  where its planes are
//   pack_input<K>       quantises activations for dot_row
// A row is padded to blocks of 64; groups of 32 weights share a bf16 scale. Its high plane holds
// high nibbles, then the scales, then the index and value of an outlier; its low plane the low
// nibbles. int8 is s (16 h + l - 128); int4 has no low plane and is s (16 h + 7.5 - 128), as is the
// high plane of an int8 row alone. To one weight, the outlier, its value is added.
#pragma once
#include "nibbles.h"

namespace sc {

struct int8 {
    static constexpr bool LOW = true;  // has a low plane
};
struct int4 {
    static constexpr bool LOW = false;
};

template <class T>
constexpr bool is_quantized = std::is_same_v<T, int8> || std::is_same_v<T, int4>;

constexpr int GROUP = 32;  // weights that share a scale

// The sizes of a row of K weights.
template <int K>
struct Planes {
    static constexpr int BLOCKS = (K + BLOCK - 1) / BLOCK, GROUPS = BLOCKS * (BLOCK / GROUP);
    static constexpr int64_t NIBBLES = BLOCKS * 32, FINE = NIBBLES;
    static constexpr int64_t OUTLIER = NIBBLES + 2 * GROUPS, COARSE = OUTLIER + 4;
};

template <class T, int K>
struct QuantizedRow {
    const uint8_t *high, *low;
    const bf16* scales() const { return reinterpret_cast<const bf16*>(high + Planes<K>::NIBBLES); }
    int outlier() const { return load_bytes<uint16_t>(high + Planes<K>::OUTLIER); }
    float outlier_value() const {
        const uint32_t bits = load_bytes<uint16_t>(high + Planes<K>::OUTLIER + 2);
        return bits_as<float>(bits << 16);
    }
};

// A row of activations: x ~ scale (128 high + low) in each group, 15 bits: with 8 the largest of a
// group would take precision from the others, and a second product costs no bytes. It takes less
// than K floats, K whole blocks.
template <int K>
struct PackedInput {
    using P = Planes<K>;
    static constexpr int STEPS = 127 * 128;
    int8_t high[P::BLOCKS * BLOCK], low[P::BLOCKS * BLOCK];
    int32_t start[P::BLOCKS * BLOCK / 4];  // for dot4
    float scales[P::GROUPS];
    float rest[P::GROUPS];  // the product of each group with MEAN_LOW
    float coarse[P::GROUPS];  // what dot_coarse adds to 128 scale times the sums of `high`
};

// x[K] to packed, room for K floats rounded up to blocks: what dot_row of int8 and int4 reads.
template <int K>
inline void pack_input(float* __restrict packed, const float* __restrict x) {
    auto& to = *reinterpret_cast<PackedInput<K>*>(packed);
    auto pack = [&](int64_t g, const float* from) {
        int32_t rounded[GROUP];
        vf top{}, sum{};
        for (int i = 0; i < GROUP; i += LANES) {
            const vf v = load(from + i);
            top = vmax(top, vmax(v, -v));
        }
        const float scale = hmax(top) / PackedInput<K>::STEPS, divisor = scale == 0.0f ? 1.0f : scale;
        for (int i = 0; i < GROUP; i += LANES) {
            // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, in the low bits.
            constexpr float SHIFT = 12582912.0f;
            const vf shifted = load(from + i) / divisor + SHIFT;
            std::memcpy(rounded + i, &shifted, sizeof shifted);
            sum += shifted - SHIFT;
        }
        for (int i = 0; i < GROUP; ++i) {
            const int q = static_cast<int16_t>(rounded[i]), high = (q + 64) >> 7;
            to.high[g * GROUP + i] = static_cast<int8_t>(high);
            to.low[g * GROUP + i] = static_cast<int8_t>(q - 128 * high);
        }
        const float total = hsum(sum);
        int32_t highs = 0;
        for (int i = 0; i < GROUP; ++i) highs += to.high[g * GROUP + i];
        to.coarse[g] = COARSE_OFFSET * 128 * scale * static_cast<float>(highs);
        to.scales[g] = total == total ? scale : total;  // a NaN stays one
        to.rest[g] = MEAN_LOW * scale * total;
    };
    for (int64_t g = 0; g < K / GROUP; ++g) pack(g, x + g * GROUP);
    for (int64_t g = K / GROUP; g < Planes<K>::GROUPS; ++g) {
        float part[GROUP] = {};
        if (g == K / GROUP) std::memcpy(part, x + g * GROUP, K % GROUP * sizeof *x);
        pack(g, part);
    }
    for (int j = 0; j < Planes<K>::BLOCKS * VECTORS; ++j) {
        const auto sum4 = [&](const int8_t* x) {
            const vi q = load_bytes<vi>(x + j * VECTOR_BYTES);
            return (q << 24 >> 24) + (q << 16 >> 24) + (q << 8 >> 24) + (q >> 24);
        };
        const vi start = -128 * (128 * sum4(to.high) + sum4(to.low));
        std::memcpy(to.start + j * LANES, &start, sizeof start);
    }
}

// Of a vector of groups' factors, those for the sums in vector J of block B.
template <int B, int J>
struct OfBlock {
    constexpr int operator()(int i) const { return 2 * B + (J * VECTOR_BYTES + 4 * i) / GROUP; }
};

template <int N, class T, int K>
SC_INLINE void prefetch_row(const QuantizedRow<T, K>& row) {
    prefetch<Planes<N>::COARSE>(row.high);
    if constexpr (T::LOW) prefetch<Planes<N>::FINE>(row.low);
}

// Asks for the nibbles of N groups from g on.
template <int N, class T, int K>
SC_INLINE void prefetch_groups(const QuantizedRow<T, K>& row, int g) {
    prefetch<N * GROUP / 2>(row.high + GROUP / 2 * g);
    if constexpr (T::LOW) prefetch<N * GROUP / 2>(row.low + GROUP / 2 * g);
}

// `x` is packed.
template <int K, int ASK = K, class T>
SC_INLINE vf dot_row(const float* __restrict x, const QuantizedRow<T, K>& row,
                     const QuantizedRow<T, K>& next) {
    const auto& in = *reinterpret_cast<const PackedInput<K>*>(x);
    vf acc[2] = {};
    // A vector of scales, then the blocks that it is for.
    each_vector<Planes<K>::GROUPS>([&](int g, auto n) SC_ALWAYS {
        const vf s = load(row.scales() + g, n), factors = s * load(in.scales + g, n);
        if constexpr (!T::LOW) acc[0] += s * load(in.rest + g, n);
        if (g * GROUP < ASK) prefetch_groups<n>(next, g);
        each_constant<n / 2>([&](auto b) SC_ALWAYS {
            each_constant<VECTORS>([&](auto j) SC_ALWAYS {
                const int block = g / 2 + b, vector = block * VECTORS + j;
                const vb u = nibbles<T::LOW>(row.high + 32 * block, row.low + 32 * block, j);
                const vi sums =
                    dot4(u, in.high + vector * VECTOR_BYTES, in.low + vector * VECTOR_BYTES,
                         in.start + vector * LANES);
                acc[b % 2] += shuffle(factors, factors, OfBlock<b, j>{}) *
                              __builtin_convertvector(sums, vf);
            });
        });
    });
    if constexpr (ASK >= K) prefetch<Planes<K>::GROUPS>(next.scales());
    const int o = row.outlier();
    vf sum = acc[0] + acc[1];
    const float q = static_cast<float>(128 * in.high[o] + in.low[o]);
    sum[0] += row.outlier_value() * in.scales[o / GROUP] * q;
    return sum;
}

// The same of a high plane with the high parts of the activations, 8 bits: one product. What it
// leaves out is small beside what the low plane adds.
template <int K>
SC_INLINE vf dot_coarse(const float* __restrict x, const QuantizedRow<int4, K>& row,
                        const QuantizedRow<int4, K>& next) {
    const auto& in = *reinterpret_cast<const PackedInput<K>*>(x);
    vf acc[2] = {};
    each_vector<Planes<K>::GROUPS>([&](int g, auto n) SC_ALWAYS {
        const vf s = load(row.scales() + g, n), factors = 128 * s * load(in.scales + g, n);
        acc[0] += s * load(in.coarse + g, n);
        prefetch_groups<n>(next, g);
        each_constant<n / 2>([&](auto b) SC_ALWAYS {
            each_constant<VECTORS>([&](auto j) SC_ALWAYS {
                const int block = g / 2 + b, vector = block * VECTORS + j;
                const vb u = nibbles<false>(row.high + 32 * block, nullptr, j);
                acc[b % 2] += shuffle(factors, factors, OfBlock<b, j>{}) *
                              __builtin_convertvector(
                                  dot4_coarse(u, in.high + vector * VECTOR_BYTES), vf);
            });
        });
    });
    prefetch<Planes<K>::GROUPS>(next.scales());
    const int o = row.outlier();
    vf sum = acc[0] + acc[1];
    sum[0] += row.outlier_value() * in.scales[o / GROUP] * static_cast<float>(128 * in.high[o]);
    return sum;
}

template <int N, int R, class T>
SC_INLINE void add_rows(float* __restrict out, const float* c, const QuantizedRow<T, N> (&rows)[R],
                        const QuantizedRow<T, N> (&next)[R]) {
    // A vector of scales, then the blocks that it is for.
    each_vector<Planes<N>::GROUPS>([&](int g, auto n) SC_ALWAYS {
        alignas(64) float factors[R][LANES];
        for (int r = 0; r < R; ++r) {
            store(factors[r], splat(c[r] / UNIT) * load(rows[r].scales() + g, n));
            prefetch_groups<n>(next[r], g);
        }
        auto add = [&](int b, auto size) SC_ALWAYS {
            each_constant<VECTORS>([&](auto j) SC_ALWAYS {
                constexpr int FIRST = j * VECTOR_BYTES;
                constexpr int SIZE = static_cast<int>(max(0, min(size - FIRST, VECTOR_BYTES)));
                float* y = out + (g / 2 + b) * BLOCK + FIRST;
                vf sums[4] = {}, w[4];
                each_vector<SIZE>([&](int i, auto lanes) SC_ALWAYS {
                    sums[i / LANES] = load(y + i, lanes);
                });
                for (int r = 0; r < R; ++r) {
                    const int64_t at = (g / 2 + b) * 32;
                    widen_nibbles<T::LOW>(w, rows[r].high + at, rows[r].low + at, j);
                    for (int v = 0; v < 4; ++v)
                        sums[v] += factors[r][2 * b + (FIRST + v * LANES) / GROUP] * w[v];
                }
                each_vector<SIZE>([&](int i, auto lanes) SC_ALWAYS {
                    store(y + i, sums[i / LANES], lanes);
                });
            });
        };
        constexpr int WHOLE = N / BLOCK;
        const int count = n / 2, whole = static_cast<int>(min(count, WHOLE - g / 2));
        for (int b = 0; b < whole; ++b) add(b, Lanes<BLOCK>{});
        if constexpr (N % BLOCK != 0)
            if (whole < count) add(whole, Lanes<N % BLOCK>{});
    });
    for (int r = 0; r < R; ++r) {
        out[rows[r].outlier()] += c[r] * rows[r].outlier_value();
        prefetch<Planes<N>::GROUPS>(next[r].scales());
    }
}

// y[64] = block b of a row.
template <class T, int K>
SC_INLINE void widen_block(float* __restrict y, const QuantizedRow<T, K>& row, int64_t b) {
    const vf scales = load(row.scales() + 2 * b, Lanes<2>{});
    for (int j = 0; j < VECTORS; ++j) {
        vf w[4];
        widen_nibbles<T::LOW>(w, row.high + 32 * b, row.low + 32 * b, j);
        for (int v = 0; v < 4; ++v) {
            const int i = j * VECTOR_BYTES + v * LANES;
            store(y + i, scales[i / GROUP] / UNIT * w[v]);
        }
    }
    if (row.outlier() / BLOCK == b) y[row.outlier() % BLOCK] += row.outlier_value();
}

template <int N, class T, int K>
SC_INLINE void widen_part(float* __restrict y, const QuantizedRow<T, K>& row, int64_t start) {
    for (int64_t i = 0; i < N;) {
        const int64_t b = (start + i) / BLOCK, skip = (start + i) % BLOCK;
        const int64_t count = min(BLOCK - skip, N - i);
        if (count == BLOCK) {
            widen_block(y + i, row, b);
        } else {
            float part[BLOCK];
            widen_block(part, row, b);
            std::memcpy(y + i, part + skip, count * sizeof *y);
        }
        i += count;
    }
}

}  // namespace sc
