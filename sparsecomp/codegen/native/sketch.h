// Scores of a whole vocabulary from a sketch of the head: rows of 4 and 2 bits in the principal
// axes of its input, 16 rows side by side (sparsecomp/sketches.py says how they lie).
//   sketch_rows<N, K>   rows n0..n1 of N, K axes
// A vector has a row in each lane: four bytes of codes a row meet the same four activations, so
// there are no sums across lanes. The lots are one stream, which the processor asks for itself:
// asking for it 2 KiB ahead, or more, halved its speed.
#pragma once
#include "nibbles.h"

namespace sc {

// The sizes of a sketch of rows of K weights, 16 rows a lot.
template <int K>
struct SketchSizes {
    static constexpr int LOT = 16, FINE = 64, GROUP = 256;
    static constexpr int COARSE = K > FINE ? static_cast<int>(round_up(K - FINE, 16)) : 0;
    static constexpr int PADDED = FINE + COARSE;
    static constexpr int GROUPS = 1 + (COARSE + GROUP - 1) / GROUP;
    static constexpr int64_t CODES = (FINE / 2 + COARSE / 4) * LOT;
    static constexpr int64_t SCALES = CODES, BIAS = SCALES + GROUPS * LOT * 2;
    static constexpr int64_t BYTES = BIAS + LOT * 4;
};

// Activations in 8 bits: x ~ scale code in each group; `middle` is what the codes' middle takes off.
template <int K>
struct SketchInput {
    using S = SketchSizes<K>;
    int8_t codes[S::PADDED];
    float scales[S::GROUPS], middle[S::GROUPS];

    explicit SketchInput(const float* x) {
        float padded[S::PADDED] = {};
        std::memcpy(padded, x, K * sizeof *x);
        pack(0, padded, 0, S::FINE, 7.5f);
        for (int g = 1, first = S::FINE; g < S::GROUPS; ++g, first += S::GROUP)
            pack(g, padded, first, static_cast<int>(min(first + S::GROUP, S::PADDED)), 1.5f);
    }

    void pack(int g, const float* x, int first, int end, float codes_middle) {
        vf top{}, sum{};
        for (int i = first; i < end; i += LANES) {
            const vf v = load(x + i);
            top = vmax(top, vmax(v, -v));
        }
        const float scale = hmax(top) / 127, divisor = scale == 0.0f ? 1.0f : scale;
        for (int i = first; i < end; i += LANES) {
            // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, in the low bits.
            constexpr float SHIFT = 12582912.0f;
            const vf shifted = load(x + i) / divisor + SHIFT;
            sum += shifted - SHIFT;
            int32_t rounded[LANES];
            std::memcpy(rounded, &shifted, sizeof shifted);
            for (int j = 0; j < LANES; ++j) codes[i + j] = static_cast<int8_t>(rounded[j]);
        }
        const float total = hsum(sum);
        scales[g] = total == total ? scale : total;  // a NaN stays one
        middle[g] = scale * codes_middle * total;
    }

    // Four activations in every lane.
    vi four(int i) const { return load_bytes<int32_t>(codes + i) - vi{}; }
};

// Adds the sums of four neighbours of u x to `sums`; u < 64.
SC_INLINE vi add_dot4(vi sums, vi u, vi x) {
#if defined(__AVX512VNNI__)
    return bits_as<vi>(_mm512_dpbusd_epi32(bits_as<__m512i>(sums), bits_as<__m512i>(u),
                                           bits_as<__m512i>(x)));
#elif defined(__AVX2__) && !defined(__AVX512F__)
    const __m256i pairs = _mm256_maddubs_epi16(bits_as<__m256i>(u), bits_as<__m256i>(x));
    return sums + bits_as<vi>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#else
    // Even and odd bytes as 16 bits: products, and sums of two, fit.
    const vs q = bits_as<vs>(u), v = bits_as<vs>(x);
    const vi pairs = bits_as<vi>((q & 0xff) * (v << 8 >> 8) + (q >> 8) * (v >> 8));
    return sums + (pairs << 16 >> 16) + (pairs >> 16);
#endif
}

// y[n0..n1) = the scores of rows n0..n1 of N: x[0..K) in the sketch, plus x[K]. n0 is a multiple of
// 16, and so is n1 or it is N.
template <int N, int K>
inline void sketch_rows(float* __restrict y, const float* __restrict x, const char* sketch,
                        int64_t n0, int64_t n1) {
    using S = SketchSizes<K>;
    constexpr int PARTS = S::LOT / LANES;  // vectors that hold a number for each row of a lot
    const SketchInput<K> in(x);
    for (int64_t n = n0; n < n1; n += S::LOT) {
        const char* lot = sketch + n / S::LOT * S::BYTES;
        vf out[PARTS];
        for (int p = 0; p < PARTS; ++p)
            out[p] = x[K] + load(reinterpret_cast<const float*>(lot + S::BIAS) + p * LANES);
        auto add_group = [&](int g, int p, vi sums) SC_ALWAYS {
            const auto* scales = reinterpret_cast<const bf16*>(lot + S::SCALES) + g * S::LOT;
            out[p] += load(scales + p * LANES) *
                      (__builtin_convertvector(sums, vf) * in.scales[g] - in.middle[g]);
        };
        auto codes = [&](int64_t at, int p) SC_ALWAYS {
            return load_bytes<vi>(lot + at + p * LANES * 4);
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
        for (int g = 1, first = S::FINE; g < S::GROUPS; ++g, first += S::GROUP) {
            const int end = static_cast<int>(min(first + S::GROUP, S::PADDED));
            for (int p = 0; p < PARTS; ++p) {
                // The second and the fourth code of a byte are left where they are, times 4.
                vi sums[4] = {};
                auto add_axes = [&](int i) SC_ALWAYS {
                    const int64_t at = S::FINE / 2 * S::LOT + (i - S::FINE) / 4 * S::LOT;
                    const vi u = codes(at, p), v = u >> 4;
                    sums[0] = add_dot4(sums[0], u & 0x03030303, in.four(i));
                    sums[1] = add_dot4(sums[1], u & 0x0c0c0c0c, in.four(i + 4));
                    sums[2] = add_dot4(sums[2], v & 0x03030303, in.four(i + 8));
                    sums[3] = add_dot4(sums[3], v & 0x0c0c0c0c, in.four(i + 12));
                };
                // Steps written out: GCC keeps the sums of a shorter loop in memory.
                constexpr int STEPS = 4 / PARTS, AXES = 16 * STEPS;
                int i = first;
                for (; i + AXES <= end; i += AXES)
                    each_constant<STEPS>([&](auto step) SC_ALWAYS { add_axes(i + 16 * step); });
                for (; i < end; i += 16) add_axes(i);
                add_group(g, p, sums[0] + sums[2] + ((sums[1] + sums[3]) >> 2));
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
