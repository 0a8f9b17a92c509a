// A row of quantised weights, int8 to int4, as the kernels use it: what row.h does for float.
//   QuantizedRow<T, K>  where its planes are
//   pack_input<K>       quantises activations for dot_row
// A row is padded to blocks of 64; groups of 32 weights share a scale s, a byte (its steps) times
// the bf16 scale of the row. Its high plane holds high nibbles, then these bytes, then the index and
// value of an outlier, then the row's scale; its low plane the bits below: l of int8 is a nibble, of
// int6 four times two bits, of int5 eight times one, and int4 has none. A weight is
// s (u + UNKNOWN - 128) with u = 16 h + l, or what that is expanded to in int6 and int5; the high
// plane of int8 alone is one of int4. To one weight, the outlier, its value is added.
#pragma once
#include "nibbles.h"

namespace sc {

struct int8 {
    static constexpr int LOW = 4;  // bits in the low plane
};
struct int6 {
    static constexpr int LOW = 2;
};
struct int5 {
    static constexpr int LOW = 1;
};
struct int4 {
    static constexpr int LOW = 0;
};

template <class T>
constexpr bool is_quantized =
    std::is_same_v<T, int8> || std::is_same_v<T, int6> || std::is_same_v<T, int5> ||
    std::is_same_v<T, int4>;

constexpr int GROUP = 32;  // weights that share a scale

// The sizes of a row of K weights.
template <int K>
struct Planes {
    static constexpr int BLOCKS = (K + BLOCK - 1) / BLOCK, GROUPS = BLOCKS * (BLOCK / GROUP);
    static constexpr int64_t NIBBLES = BLOCKS * 32;
    static constexpr int64_t OUTLIER = NIBBLES + GROUPS, SCALE = OUTLIER + 4;
    static constexpr int64_t COARSE = round_up(SCALE + 2, 4);
    template <class T>
    static constexpr int64_t FINE = BLOCKS * 8 * T::LOW;
};

// How the weights of a row lie in its blocks. A plain row, one that is added to a sum, has them in
// order. Of a row to multiply, several groups are spread over the blocks of a chunk, so that each
// lane of a vector keeps to one group: its sums are scaled once a chunk. A chunk of V blocks has 2V
// groups; each of its blocks has 32 / V weights of every group. A row has chunks of 8 blocks and
// then at most one of 4, of 2 and of 1.
enum class Order { plain, spread };

// Calls f(first, Lanes<V>{}) for the chunks of BLOCKS blocks.
template <int BLOCKS, class F>
SC_INLINE void each_chunk(F&& f) {
    constexpr int WHOLE = BLOCKS / 8 * 8;
    if constexpr (WHOLE > 0)
        for (int b = 0; b < WHOLE; b += 8) f(b, Lanes<8>{});
    if constexpr (BLOCKS & 4) f(WHOLE, Lanes<4>{});
    if constexpr (BLOCKS & 2) f(WHOLE + (BLOCKS & 4), Lanes<2>{});
    if constexpr (BLOCKS & 1) f(BLOCKS - 1, Lanes<1>{});
}

// A place in the blocks of a spread row: its group, and which weight of the group lies there.
struct Place {
    int group, weight;
};
template <int BLOCKS>
SC_INLINE Place place_at(int i) {
    constexpr int WHOLE = BLOCKS / 8 * 8, FOUR = WHOLE + (BLOCKS & 4), TWO = FOUR + (BLOCKS & 2);
    const int b = i / BLOCK, at = i % BLOCK;
    auto in_chunk = [&](int first, int V) -> Place {
        const int piece = GROUP / V;
        return {2 * first + at / piece, (b - first) * piece + at % piece};
    };
    if (b < WHOLE) return in_chunk(b / 8 * 8, 8);
    return b < FOUR ? in_chunk(WHOLE, 4) : b < TWO ? in_chunk(FOUR, 2) : in_chunk(TWO, 1);
}

template <class T, int K, Order ORDER>
struct QuantizedRow {
    const uint8_t *high, *low;
    // Of each group; times scale() it is what scales its weights. A sum over groups is scaled once.
    const uint8_t* steps() const { return high + Planes<K>::NIBBLES; }
    vf scale() const { return bits_as<vf>((vu{} + word_to(Planes<K>::SCALE)) & UPPER); }
    // Where it lies in the blocks.
    int outlier() const { return load_bytes<uint16_t>(high + Planes<K>::OUTLIER); }
    float outlier_value() const { return bits_as<float>(word_to(Planes<K>::OUTLIER + 2) & UPPER); }

   private:
    // A bf16 is the upper half of a float: the word that ends with it needs no shift.
    static constexpr uint32_t UPPER = 0xffff0000;
    uint32_t word_to(int64_t at) const { return load_bytes<uint32_t>(high + at - 2); }
};
template <class T, int K>
using SpreadRow = QuantizedRow<T, K, Order::spread>;
template <class T, int K>
using PlainRow = QuantizedRow<T, K, Order::plain>;

constexpr int INPUT_STEPS = 127 * 128;

// A row of activations, spread: x ~ scale (128 high + low) in each group, 15 bits: with 8 the
// largest of a group would take precision from the others, and a second product costs no bytes. It
// takes less than K floats, K whole blocks.
template <int K>
struct PackedInput {
    using P = Planes<K>;
    int8_t high[P::BLOCKS * BLOCK], low[P::BLOCKS * BLOCK];
    int32_t sums[P::BLOCKS * BLOCK / 4];  // of each lane over a chunk's blocks, at the first of them
    float scales[P::GROUPS];
    float coarse[P::GROUPS];  // what dot_coarse adds to 128 scale times the sums of `high`
};
// The lanes as bytes.
SC_INLINE void store_bytes(int8_t* p, vi x) {
    typedef int8_t bytes __attribute__((vector_size(LANES)));
    const bytes narrow = __builtin_convertvector(x, bytes);
    std::memcpy(p, &narrow, sizeof narrow);
}

// The two parts of a group's integers; returns its scale.
SC_INLINE float pack_group(const float* __restrict x, int8_t (&high)[GROUP], int8_t (&low)[GROUP]) {
    // As integers, floats without a sign keep their order, and NaNs come last.
    vi top{};
    for (int i = 0; i < GROUP; i += LANES) {
        const vi v = bits_as<vi>(load(x + i)) & 0x7fffffff;
        top = v > top ? v : top;
    }
    const float scale = bits_as<float>(hmax(top)) / INPUT_STEPS;
    const float divisor = scale == 0.0f ? 1.0f : scale;
    for (int i = 0; i < GROUP; i += LANES) {
        // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, in the low bits.
        constexpr float SHIFT = 12582912.0f;
        const vf shifted = load(x + i) / divisor + SHIFT;
        const vi q = bits_as<vi>(shifted) << 16 >> 16, h = (q + 64) >> 7;
        store_bytes(high + i, h);
        store_bytes(low + i, q - (h << 7));
    }
    return scale + 0.0f * scale;  // NaN where one is not finite
}

// The two parts of the integers of a chunk of V blocks, spread, and the scales of its groups. Behind
// the first `left` of x are zeros.
template <int V>
SC_INLINE void pack_chunk(int8_t* __restrict to_high, int8_t* __restrict to_low,
                          float* __restrict scales, const float* __restrict x, int64_t left) {
    constexpr int PIECE = GROUP / V;
    for (int g = 0; g < 2 * V; ++g, x += GROUP, left -= GROUP) {
        alignas(64) int8_t high[GROUP], low[GROUP];
        if (left >= GROUP) {
            scales[g] = pack_group(x, high, low);
        } else {
            float part[GROUP] = {};
            if (left > 0) std::memcpy(part, x, left * sizeof *x);
            scales[g] = pack_group(part, high, low);
        }
        for (int v = 0; v < V; ++v) {
            std::memcpy(to_high + v * BLOCK + g * PIECE, high + v * PIECE, PIECE);
            std::memcpy(to_low + v * BLOCK + g * PIECE, low + v * PIECE, PIECE);
        }
    }
}

// What depends on the sums of a chunk's integers, those of lanes and of groups. A lane is of one group.
template <int K, int V>
SC_INLINE void sum_chunk(PackedInput<K>& to, int b) {
    constexpr int ALL = BLOCK / 4, OF_GROUP = 8 / V;  // lanes
    int32_t highs[ALL];
    for (int j = 0; j < VECTORS; ++j) {
        vi high{}, low{}, high_next{}, low_next{};
        for (int v = 0; v < V; ++v) {
            const int at = (b + v) * BLOCK + j * VECTOR_BYTES;
            const vb x_high = load_bytes<vb>(to.high + at), x_low = load_bytes<vb>(to.low + at);
            const vb zero = vb{} + 128, one = vb{} + 129;  // as dot4 has it
            high = dot4(high, zero, x_high), high_next = dot4(high_next, one, x_high);
            low = dot4(low, zero, x_low), low_next = dot4(low_next, one, x_low);
        }
        high = high_next - high, low = low_next - low;
        const vi sums = (high << 7) + low;
        std::memcpy(to.sums + b * ALL + j * LANES, &sums, sizeof sums);
        std::memcpy(highs + j * LANES, &high, sizeof high);
    }
    for (int g = 0; g < 2 * V; ++g) {
        int32_t high = 0;
        for (int i = 0; i < OF_GROUP; ++i) high += highs[g * OF_GROUP + i];
        to.coarse[2 * b + g] = (UNKNOWN<0> - 128 + MIDDLE) * 128 * to.scales[2 * b + g] *
                               static_cast<float>(high);
    }
}

// x[K] to packed, room for K floats rounded up to blocks: what dot_row reads.
template <int K>
inline void pack_input(float* __restrict packed, const float* __restrict x) {
    auto& to = *reinterpret_cast<PackedInput<K>*>(packed);
    each_chunk<Planes<K>::BLOCKS>([&](int b, auto blocks) {
        constexpr int V = blocks;
        pack_chunk<V>(to.high + b * BLOCK, to.low + b * BLOCK, to.scales + 2 * b, x + b * BLOCK,
                      K - b * BLOCK);
        sum_chunk<K, V>(to, b);
    });
}

// In vector J of a chunk of V blocks, the group of each lane, counted from that of the first.
template <int V>
struct GroupOfLane {
    constexpr int operator()(int i) const { return i * V / 8; }
};

// The factors of the lanes of vector J of the chunk of V blocks that begins with block b, but for
// the row's scale.
template <int V, int J, int K>
SC_INLINE vf lane_factors(const uint8_t* steps, const PackedInput<K>& in, int b) {
    constexpr int FIRST = J * LANES * V / 8;
    constexpr Lanes<static_cast<int>(max(1, LANES * V / 8))> groups{};
    const int g = 2 * b + FIRST;
    const vf factors = load(steps + g, groups) * load(in.scales + g, groups);
    return V == 8 ? factors : shuffle(factors, factors, GroupOfLane<V>{});
}

template <int N, class T, int K, Order O>
SC_INLINE void prefetch_row(const QuantizedRow<T, K, O>& row) {
    prefetch<Planes<N>::COARSE>(row.high);
    if constexpr (T::LOW > 0) prefetch<Planes<N>::template FINE<T>>(row.low);
}

// Asks for the planes of N groups from g on.
template <int N, class T, int K, Order O>
SC_INLINE void prefetch_groups(const QuantizedRow<T, K, O>& row, int g) {
    prefetch<N * GROUP / 2>(row.high + GROUP / 2 * g);
    if constexpr (T::LOW > 0)
        prefetch<N * GROUP * T::LOW / 8>(row.low + GROUP * T::LOW / 8 * g);
}

// Asks for what lies behind the high nibbles.
template <class T, int K, Order O>
SC_INLINE void prefetch_scales(const QuantizedRow<T, K, O>& row) {
    prefetch<Planes<K>::COARSE - Planes<K>::NIBBLES>(row.steps());
}

// Vector j of block b, as bytes and as floats.
template <class T, int K, Order O>
SC_INLINE vb block_at(const QuantizedRow<T, K, O>& row, int64_t b, int j) {
    return nibbles<T::LOW>(row.high + 32 * b, row.low + 8 * T::LOW * b, j);
}
template <class T, int K, Order O>
SC_INLINE void widen_block(vf (&w)[4], const QuantizedRow<T, K, O>& row, int64_t b, int j) {
    widen_nibbles<T::LOW>(w, row.high + 32 * b, row.low + 8 * T::LOW * b, j);
}

// What the outlier of a row adds to its product, with what value(place) says of the activations.
template <class T, int K, class Value>
SC_INLINE float outlier_product(const SpreadRow<T, K>& row, const PackedInput<K>& in, Value value) {
    const int o = row.outlier();
    const float scale = in.scales[place_at<Planes<K>::BLOCKS>(o).group];
    return row.outlier_value() * scale * static_cast<float>(value(o));
}

// sums[r] = the product of rows[r]; `x` is packed.
template <int K, int ASK = K, int R, class T>
SC_INLINE void dot_rows(vf* sums, const float* __restrict x, const SpreadRow<T, K> (&rows)[R],
                        const SpreadRow<T, K> (&next)[R]) {
    const auto& in = *reinterpret_cast<const PackedInput<K>*>(x);
    each_constant<R>([&](auto r) SC_ALWAYS { sums[r] = vf{}; });
    each_chunk<Planes<K>::BLOCKS>([&](int b, auto blocks) SC_ALWAYS {
        if (b * BLOCK < ASK)
            for (const auto& row : next) prefetch_groups<2 * blocks>(row, 2 * b);
        each_constant<VECTORS>([&](auto j) SC_ALWAYS {
            // What dot4 leaves out, and what bytes do.
            const vi in_lanes = load_bytes<vi>(in.sums + b * BLOCK / 4 + j * LANES);
            const vi left_out = (MIDDLE - 128) * in_lanes;
            const vf below = UNKNOWN<T::LOW> * __builtin_convertvector(in_lanes, vf);
            vi high[R]{}, low[R];
            for (vi& sum : low) sum = left_out;
            each_constant<blocks>([&](auto v) SC_ALWAYS {
                const int at = BLOCK * (b + v) + j * VECTOR_BYTES;
                vb x_high = load_bytes<vb>(in.high + at), x_low = load_bytes<vb>(in.low + at);
                if constexpr (R > 1) x_high = in_register(x_high), x_low = in_register(x_low);
                each_constant<R>([&](auto r) SC_ALWAYS {
                    const vb u = block_at(rows[r], b + v, j);
                    high[r] = dot4(high[r], u, x_high);
                    low[r] = dot4(low[r], u, x_low);
                });
            });
            each_constant<R>([&](auto r) SC_ALWAYS {
                vf sum = __builtin_convertvector((high[r] << 7) + low[r], vf);
                if constexpr (T::LOW < 4) sum += below;
                sums[r] += lane_factors<blocks, j>(rows[r].steps(), in, b) * sum;
            });
        });
    });
    each_constant<R>([&](auto r) SC_ALWAYS {
        if constexpr (ASK >= K) prefetch_scales(next[r]);
        vf outlier{};
        outlier[0] = outlier_product(rows[r], in,
                                     [&](int o) { return 128 * in.high[o] + in.low[o]; });
        sums[r] = sums[r] * rows[r].scale() + outlier;
    });
}

template <int K, int ASK = K, class T>
SC_INLINE vf dot_row(const float* __restrict x, const SpreadRow<T, K>& row,
                     const SpreadRow<T, K>& next) {
    vf sums[1];
    dot_rows<K, ASK>(sums, x, {row}, {next});
    return sums[0];
}

// The same of a high plane with the high parts of the activations, 8 bits: one product. What it
// leaves out is small beside what the low plane adds.
template <int K>
SC_INLINE vf dot_coarse(const float* __restrict x, const SpreadRow<int4, K>& row,
                        const SpreadRow<int4, K>& next) {
    const auto& in = *reinterpret_cast<const PackedInput<K>*>(x);
    vf sum{};
    each_chunk<Planes<K>::BLOCKS>([&](int b, auto blocks) SC_ALWAYS {
        prefetch_groups<2 * blocks>(next, 2 * b);
        each_constant<VECTORS>([&](auto j) SC_ALWAYS {
            vi high{};
            each_constant<blocks>([&](auto v) SC_ALWAYS {
                const vb u = block_at(row, b + v, j);
                const int at = BLOCK * (b + v) + j * VECTOR_BYTES;
                high = dot4(high, u, load_bytes<vb>(in.high + at));
            });
            sum += lane_factors<blocks, j>(row.steps(), in, b) *
                   __builtin_convertvector(high << 7, vf);
        });
    });
    each_vector<Planes<K>::GROUPS>([&](int g, auto n) SC_ALWAYS {
        sum += load(row.steps() + g, n) * load(in.coarse + g, n);
    });
    prefetch_scales(next);
    vf outlier{};
    outlier[0] = outlier_product(row, in, [&](int o) { return 128 * in.high[o]; });
    return sum * row.scale() + outlier;
}

template <int N, bool ASK = true, int R, class T>
SC_INLINE void add_rows(float* __restrict out, const float* c, const PlainRow<T, N> (&rows)[R],
                        const PlainRow<T, N> (&next)[R]) {
    vf scaled[R];
    for (int r = 0; r < R; ++r) scaled[r] = splat(c[r] / UNIT) * rows[r].scale();
    // A vector of steps, then the blocks that it is for.
    each_vector<Planes<N>::GROUPS>([&](int g, auto n) SC_ALWAYS {
        alignas(64) float factors[R][LANES];
        for (int r = 0; r < R; ++r) {
            store(factors[r], scaled[r] * load(rows[r].steps() + g, n));
            if constexpr (ASK) prefetch_groups<n>(next[r], g);
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
                    widen_block(w, rows[r], g / 2 + b, j);
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
        if constexpr (ASK) prefetch_scales(next[r]);
    }
}

// y[V * 64] = the blocks of a spread row from b on, a chunk, without its outlier.
template <int V, class T, int K>
SC_INLINE void widen_blocks(float* __restrict y, const SpreadRow<T, K>& row, int64_t b) {
    constexpr int PIECE = GROUP / V;  // weights side by side
    float scales[2 * V];
    each_vector<2 * V>([&](int g, auto n) {
        store(scales + g, row.scale() / UNIT * load(row.steps() + 2 * b + g, n), n);
    });
    for (int v = 0; v < V; ++v) {
        for (int j = 0; j < VECTORS; ++j) {
            vf w[4];
            widen_block(w, row, b + v, j);
            for (int q = 0; q < 4; ++q) {
                quad quads[LANES / 4];
                std::memcpy(quads, &w[q], sizeof quads);
                for (int i = 0; i < LANES; i += 4) {
                    const int place = j * VECTOR_BYTES + q * LANES + i, g = place / PIECE;
                    store_quad(y + g * GROUP + v * PIECE + place % PIECE,
                               scales[g] * quads[i / 4]);
                }
            }
        }
    }
}

// y[64] = block b of a plain row, without its outlier.
template <int V, class T, int K>
SC_INLINE void widen_blocks(float* __restrict y, const PlainRow<T, K>& row, int64_t b) {
    static_assert(V == 1);
    const vf scales = row.scale() / UNIT * load(row.steps() + 2 * b, Lanes<2>{});
    for (int j = 0; j < VECTORS; ++j) {
        vf w[4];
        widen_block(w, row, b, j);
        for (int v = 0; v < 4; ++v) {
            const int i = j * VECTOR_BYTES + v * LANES;
            store(y + i, scales[i / GROUP] * w[v]);
        }
    }
}

// The weight at a place in the blocks of a row.
template <class T, int K>
SC_INLINE int weight_at(const PlainRow<T, K>&, int place) {
    return place;
}
template <class T, int K>
SC_INLINE int weight_at(const SpreadRow<T, K>&, int place) {
    const Place at = place_at<Planes<K>::BLOCKS>(place);
    return at.group * GROUP + at.weight;
}

template <int N, class T, int K, Order O>
SC_INLINE void widen_part(float* __restrict y, const QuantizedRow<T, K, O>& row, int64_t start) {
    const int64_t end = start + N;
    auto widen_chunk = [&](int64_t b, auto blocks) {
        constexpr int SIZE = blocks * BLOCK;
        const int64_t first = max(start, b * BLOCK), last = min(end, b * BLOCK + SIZE);
        if (last - first == SIZE) return widen_blocks<blocks>(y + first - start, row, b);
        if (last <= first) return;
        float part[SIZE];
        widen_blocks<blocks>(part, row, b);
        std::memcpy(y + first - start, part + first - b * BLOCK, (last - first) * sizeof *y);
    };
    if constexpr (O == Order::spread)
        each_chunk<Planes<K>::BLOCKS>(widen_chunk);
    else
        for (int64_t b = start / BLOCK; b * BLOCK < end; ++b) widen_chunk(b, Lanes<1>{});
    const int64_t o = weight_at(row, row.outlier());
    if (start <= o && o < end) y[o - start] += row.outlier_value();
}

}  // namespace sc
