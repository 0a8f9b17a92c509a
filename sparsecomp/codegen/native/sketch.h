// Scores of a whole vocabulary from a sketch of the head: rows of 4 bits and 2, or 4 and 1, in the
// principal axes of its input, 16 rows side by side (sparsecomp/sketches.py says how they lie). What a
// code stands for is looked up by a window of six bits: the lower ones are the codes before, of the
// same lane or of the same one in the vector before.
//   sketch_rows<N, K, BITS>   rows n0..n1 of N, K axes
// A vector has a row in each lane: the codes of four axes a row meet the same four activations, so
// there are no sums across lanes. The lots are one stream, which the processor asks for itself, but
// not early enough: each vector asks for what comes AHEAD of it.
#pragma once
#include "nibbles.h"

namespace sc {

// The sizes of a sketch of rows of K weights, 16 rows a lot; of 1 bit it has half of the coarse axes.
template <int K, int BITS>
struct SketchSizes {
    static constexpr int LOT = 16, FINE = 64, GROUP = 256;
    static constexpr int KEPT = K <= FINE ? 0 : BITS == 1 ? (K - FINE + 1) / 2 : K - FINE;
    static constexpr int COARSE = static_cast<int>(round_up(KEPT, 32 / BITS));
    static constexpr int PADDED = FINE + COARSE;
    static constexpr int GROUPS = 1 + (COARSE + GROUP - 1) / GROUP;
    static constexpr int64_t CODES = (FINE / 2 + COARSE * BITS / 8) * LOT;
    static constexpr int64_t SCALES = CODES, BIAS = SCALES + GROUPS * LOT * 2;
    static constexpr int64_t BYTES = BIAS + LOT * 4;
    static constexpr int64_t TABLE = 64;  // before the first lot
};
constexpr float FINE_MIDDLE = 7.5f, LEVEL_MIDDLE = 63.5f;
constexpr int WINDOW = 6;

// Activations in 8 bits share a scale: x ~ scale code.
struct SharedScale {
    float scale, total;  // of all codes
};

// The codes of n activations, a multiple of LANES.
SC_INLINE SharedScale round_codes(int8_t* codes, const float* x, int n) {
    vf top{}, sum{};
    for (int i = 0; i < n; i += LANES) {
        const vf v = load(x + i);
        top = vmax(top, vmax(v, -v));
    }
    const float scale = hmax(top) / 127, divisor = scale == 0.0f ? 1.0f : scale;
    for (int i = 0; i < n; i += LANES) {
        // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, in the low bits.
        constexpr float SHIFT = 12582912.0f;
        const vf shifted = load(x + i) / divisor + SHIFT;
        sum += shifted - SHIFT;
        int32_t rounded[LANES];
        std::memcpy(rounded, &shifted, sizeof shifted);
        for (int j = 0; j < LANES; ++j) codes[i + j] = static_cast<int8_t>(rounded[j]);
    }
    const float total = hsum(sum);
    return {total == total ? scale : total, total};  // a NaN stays one
}

// The activations of a sketch, in the order in which lots meet them; `middle` is what the codes'
// middle takes off. Each of the four bytes of a lane holds a RUN of axes. Those that are first in
// their byte come first, then the second ones, ..: shifted, a vector has codes of the same place in
// all its bytes.
template <int K, int BITS>
class SketchInput {
    using S = SketchSizes<K, BITS>;

public:
    float scales[S::GROUPS], middle[S::GROUPS];

    explicit SketchInput(const float* x) {
        float padded[S::PADDED] = {};
        std::memcpy(padded, x, min(K, S::PADDED) * sizeof *x);
        pack<2>(0, padded, 0, S::FINE, FINE_MIDDLE);
        for (int g = 1, first = S::FINE; g < S::GROUPS; ++g, first += S::GROUP)
            pack<8 / BITS>(g, padded, first, static_cast<int>(min(first + S::GROUP, S::PADDED)),
                           LEVEL_MIDDLE);
    }

    // Four activations in every lane.
    vi four(int64_t i) const { return load_bytes<int32_t>(codes_ + i) - vi{}; }

private:
    template <int RUN>
    void pack(int g, const float* x, int first, int end, float codes_middle) {
        int8_t plain[S::GROUP];
        const SharedScale of = round_codes(plain, x + first, end - first);
        for (int i = 0; i < end - first; ++i) {
            const int at = i % (4 * RUN);
            codes_[first + i - at + at % RUN * 4 + at / RUN] = plain[i];
        }
        scales[g] = of.scale;
        middle[g] = of.scale * codes_middle * of.total;
    }

    int8_t codes_[S::PADDED];
};

// Adds the sums of four neighbours of u x to `sums`; u < 128.
SC_INLINE vi add_dot4(vi sums, vi u, vi x) {
#if defined(__AVX512VNNI__)
    return bits_as<vi>(_mm512_dpbusd_epi32(bits_as<__m512i>(sums), bits_as<__m512i>(u),
                                           bits_as<__m512i>(x)));
#elif defined(__AVX512BW__)
    const __m512i pairs = _mm512_maddubs_epi16(bits_as<__m512i>(u), bits_as<__m512i>(x));
    return sums + bits_as<vi>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#elif defined(__AVX2__)
    const __m256i pairs = _mm256_maddubs_epi16(bits_as<__m256i>(u), bits_as<__m256i>(x));
    return sums + bits_as<vi>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#else
    // Even and odd bytes as 16 bits: products, and sums of two, fit.
    const vs q = bits_as<vs>(u), v = bits_as<vs>(x);
    const vi pairs = bits_as<vi>((q & 0xff) * (v << 8 >> 8) + (q >> 8) * (v >> 8));
    return sums + (pairs << 16 >> 16) + (pairs >> 16);
#endif
}

// In each lane x after the highest bits of what is before it, as many as BITS.
template <int BITS>
SC_INLINE vi behind(vi before, vi x) {
#if defined(__AVX512VBMI2__)
    return bits_as<vi>(_mm512_maskz_shldi_epi32(0xffff, bits_as<__m512i>(x),
                                                bits_as<__m512i>(before), BITS));
#else
    return x << BITS | (before >> (32 - BITS) & ((1 << BITS) - 1));
#endif
}

// The 64 levels, looked up for each byte of a vector by its lowest six bits.
class Levels {
public:
#if defined(__AVX512VBMI__)
    explicit Levels(const char* table) : table_(load_bytes<vi>(table)) {}

    vi operator()(vi windows) const {
        return bits_as<vi>(_mm512_maskz_permutexvar_epi8(
            ~uint64_t{}, bits_as<__m512i>(windows), bits_as<__m512i>(table_)));
    }

private:
    vi table_;
#elif defined(__AVX2__)
    explicit Levels(const char* table) {
        for (int h = 0; h < 2; ++h)
            for (int i = 0; i < VECTOR_BYTES; i += 16)
                std::memcpy(reinterpret_cast<char*>(&halves_[h]) + i, table + 16 * h, 16);
    }

    vi operator()(vi windows) const {
        // The upper 32 levels are 127 less those of the opposite windows. The others are looked up
        // by four bits in both halves; the fifth says in which.
        const vi upper = bits_as<vi>(bits_as<vc>(windows << 2) < 0), w = windows ^ upper;
        const vi at = w & 0x0f0f0f0f;
        const vc found = bits_as<vc>(w << 3) < 0 ? bits_as<vc>(place_bytes(halves_[1], at))
                                                 : bits_as<vc>(place_bytes(halves_[0], at));
        return bits_as<vi>(found) ^ (upper & 0x7f7f7f7f);
    }

private:
    using vc = int8_t __attribute__((vector_size(VECTOR_BYTES)));
    vi halves_[2];
#elif defined(__aarch64__)
    explicit Levels(const char* table)
        : table_(vld1q_u8_x4(reinterpret_cast<const uint8_t*>(table))) {}

    vi operator()(vi windows) const {
        return bits_as<vi>(vqtbl4q_u8(table_, bits_as<uint8x16_t>(windows & 0x3f3f3f3f)));
    }

private:
    uint8x16x4_t table_;
#else
    explicit Levels(const char* table) : table_(table) {}

    vi operator()(vi windows) const {
        vq found{};
        for (int i = 0; i < LANES / 2; ++i) {
            const uint64_t eight = bits_as<vq>(windows)[i];
            uint64_t levels = 0;  // 7 bits: no sign
            for (int b = 0; b < 64; b += 8)
                levels |= static_cast<uint64_t>(table_[eight >> b & 63]) << b;
            found[i] = levels;
        }
        return bits_as<vi>(found);
    }

private:
    const char* table_;
#endif
};

// y[n0..n1) = the scores of rows n0..n1 of N: x[0..K) in the sketch, plus x[K]. n0 is a multiple of
// 16, and so is n1 or it is N.
template <int N, int K, int BITS>
inline void sketch_rows(float* __restrict y, const float* __restrict x, const char* sketch,
                        int64_t n0, int64_t n1) {
    using S = SketchSizes<K, BITS>;
    constexpr int PARTS = S::LOT / LANES;      // vectors that hold a number for each row of a lot
    constexpr int PLACES = 8 / BITS, LANE = 4 * PLACES;  // codes of a byte, of a lane
    constexpr int AHEAD = 512;                 // bytes, asked for into the first-level cache
    const SketchInput<K, BITS> in(x);
    const Levels levels(sketch);
    for (int64_t n = n0; n < n1; n += S::LOT) {
        const char* lot = sketch + S::TABLE + n / S::LOT * S::BYTES;
        vf out[PARTS];
        for (int p = 0; p < PARTS; ++p)
            out[p] = x[K] + load(reinterpret_cast<const float*>(lot + S::BIAS) + p * LANES);
        auto add_group = [&](int g, int p, vi sums) SC_ALWAYS {
            const auto* scales = reinterpret_cast<const bf16*>(lot + S::SCALES) + g * S::LOT;
            out[p] += load(scales + p * LANES) *
                      (__builtin_convertvector(sums, vf) * in.scales[g] - in.middle[g]);
        };
        auto codes = [&](int64_t at, int p) SC_ALWAYS {
            const char* from = lot + at + p * LANES * 4;
            __builtin_prefetch(from + AHEAD, 0, 3);
            return load_bytes<vi>(from);
        };
        for (int p = 0; p < PARTS; ++p) {
            vi low{}, high{};
            each_constant<S::FINE / 8>([&](auto step) SC_ALWAYS {
                const int i = 8 * step;
                const vi u = codes(i / 2 * S::LOT, p);
                low = add_dot4(low, u & 0x0f0f0f0f, in.four(i));
                high = add_dot4(high, (u >> 4) & 0x0f0f0f0f, in.four(i + 4));
            });
            add_group(0, p, low + high);
        }
        vi before[PARTS] = {};
        for (int g = 1, first = S::FINE; g < S::GROUPS; ++g, first += S::GROUP) {
            const int end = static_cast<int>(min(first + S::GROUP, S::PADDED));
            for (int p = 0; p < PARTS; ++p) {
                vi sums[4] = {};
                auto add_axes = [&](int64_t i) SC_ALWAYS {
                    const int64_t at = (S::FINE / 2 + (i - S::FINE) * BITS / 8) * S::LOT;
                    const vi u = codes(at, p);
                    each_constant<PLACES>([&](auto j) SC_ALWAYS {
                        constexpr int J = j, END = (J + 1) * BITS;
                        vi windows;
                        if constexpr (END < WINDOW) windows = behind<WINDOW - END>(before[p], u);
                        else windows = u >> (END - WINDOW);
                        sums[J % 4] = add_dot4(sums[J % 4], levels(windows), in.four(i + 4 * J));
                    });
                    before[p] = u;
                };
                // Steps written out: GCC keeps the sums of a shorter loop in memory.
                constexpr int STEPS = max(16 / (PLACES * PARTS), 1), AXES = LANE * STEPS;
                int64_t i = first;
                for (; i + AXES <= end; i += AXES)
                    each_constant<STEPS>([&](auto step) SC_ALWAYS { add_axes(i + LANE * step); });
                for (; i < end; i += LANE) add_axes(i);
                add_group(g, p, sums[0] + sums[1] + (sums[2] + sums[3]));
            }
        }
        const auto rows = min(n1 - n, S::LOT);
        if (rows == S::LOT) {
            for (int p = 0; p < PARTS; ++p) store(y + n + p * LANES, out[p]);
        } else {
            std::memcpy(y + n, out, rows * sizeof *y);
        }
    }
}

}  // namespace sc
