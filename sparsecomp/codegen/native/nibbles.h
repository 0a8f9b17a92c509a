// 64 weights of a row in planes as vectors of integers: AVX-512, AVX2, or any other vectors.
// A plane of nibbles has 32 bytes for them: byte i holds weight i in its low nibble and 32 + i in its
// high one. A plane of LOW = 2 bits each, or 1, has 8 LOW: byte i holds weights i, 8 LOW + i, ..
#pragma once
#include "simd.h"

namespace sc {

constexpr int BLOCK = 64;            // weights
constexpr int VECTORS = 16 / LANES;  // that hold them as bytes
constexpr int VECTOR_BYTES = 4 * LANES;

using vb = uint8_t __attribute__((vector_size(VECTOR_BYTES)));
using vs = int16_t __attribute__((vector_size(VECTOR_BYTES)));
using vq = uint64_t __attribute__((vector_size(VECTOR_BYTES)));

template <class V>
SC_INLINE V load_bytes(const void* p) {
    V x;
    std::memcpy(&x, p, sizeof x);
    return x;
}

// Loads the first N bytes as floats; the others are 0 and their memory is not touched.
template <int N = LANES>
SC_INLINE vf load(const uint8_t* p, Lanes<N> = {}) {
#if defined(__AVX512VL__) && defined(__AVX512BW__)
    const __m128i bytes = _mm_maskz_loadu_epi8((1 << N) - 1, p);
    const auto fours = bits_as<vi>(_mm512_maskz_cvtepu8_epi32(0xffff, bytes));
#else
    typedef uint8_t ones __attribute__((vector_size(LANES)));
    ones bytes{};
    std::memcpy(&bytes, p, N);
#if defined(__AVX2__) && !defined(__AVX512F__)
    const auto fours = bits_as<vi>(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bits_as<int64_t>(bytes))));
#else
    const vi fours = __builtin_convertvector(bytes, vi);
#endif
#endif
    return __builtin_convertvector(fours, vf);
}

// x, to be kept where it is: compilers would rather load what several rows share for each of them.
template <class V>
SC_INLINE V in_register(V x) {
#if defined(__AVX512F__)
    asm("" : "+v"(x));
#elif defined(__AVX2__)
    asm("" : "+x"(x));
#endif
    return x;
}

// x where `ones` has ones, y elsewhere.
SC_INLINE vq where(uint64_t ones, vq x, vq y) {
#if defined(__AVX512F__)
    return bits_as<vq>(_mm512_ternarylogic_epi64(bits_as<__m512i>(x), bits_as<__m512i>(y),
                                                 _mm512_set1_epi64(ones), 0xe4));
#else
    return y ^ ((x ^ y) & ones);
#endif
}

// The bytes of a plane that hold the weights of vector j.
SC_INLINE vq plane_bytes(const uint8_t* plane, int j) {
#if defined(__AVX512F__)
    (void)j;  // its two halves are the two nibbles of the same bytes
    return bits_as<vq>(_mm512_maskz_broadcast_i64x4(0xff, load_bytes<__m256i>(plane)));
#else
    return load_bytes<vq>(plane + j * VECTOR_BYTES % 32);
#endif
}

// Vector j of l, of a plane of LOW bits, 2 or 1, as the bits below bit TOP.
template <int LOW, int TOP>
SC_INLINE vq low_bits(const uint8_t* plane, int j) {
    constexpr int FIRST = TOP - LOW;  // bit
    [[maybe_unused]] constexpr uint64_t BITS = 0x0101010101010101 * ((1 << TOP) - (1 << FIRST));
#if defined(__AVX512F__)
    (void)j;
    const auto bytes = LOW == 2 ? _mm512_maskz_broadcast_i32x4(0xffff, load_bytes<__m128i>(plane))
                                : _mm512_set1_epi64(load_bytes<int64_t>(plane));
#if defined(__GFNI__)
    vq places{};  // of each eighth of the weights; byte 7 - d says which bit becomes bit d
    for (int e = 0; e < 8; ++e)
        for (int i = 0; i < LOW; ++i)
            places[e] |= uint64_t{1} << (8 * (7 - FIRST - i) + e / LOW * LOW + i);
    return bits_as<vq>(_mm512_gf2p8affine_epi64_epi8(bytes, bits_as<__m512i>(places), 0));
#else
    vq turns{};  // of each eighth of the weights; what wraps is masked
    for (int e = 0; e < 8; ++e) turns[e] = (FIRST - e / LOW * LOW) & 63;
    return bits_as<vq>(_mm512_maskz_rolv_epi64(0xff, bytes, bits_as<__m512i>(turns))) & BITS;
#endif
#else
    vq bytes{}, up{}, down{};
    for (int i = 0; i < LANES / 2; ++i) {
        const int eighth = j * VECTOR_BYTES / 8 + i, field = eighth / LOW * LOW;
        bytes[i] = load_bytes<uint64_t>(plane + 8 * (eighth % LOW));
        up[i] = max(0, FIRST - field);
        down[i] = max(0, field - FIRST);
    }
    return bytes << up >> down & BITS;
#endif
}

// Vector j of 16 h + l, with h of the plane `high` and l of the plane `low`, its LOW bits below h;
// without any 16 h.
template <int LOW>
SC_INLINE vb joined(const uint8_t* high, const uint8_t* low, int j) {
    vq up{};
    for (int i = 0; i < LANES / 2; ++i) up[i] = j * VECTOR_BYTES + 8 * i < 32 ? 4 : 0;
    constexpr uint64_t HIGH = 0xf0f0f0f0f0f0f0f0;
    const vq h = plane_bytes(high, j) << up;
    if constexpr (LOW == 0) {
        return bits_as<vb>(h & HIGH);
    } else {
        const vq l = LOW < 4 ? low_bits<LOW, 4>(low, j) : plane_bytes(low, j) >> (4 - up);
        return bits_as<vb>(where(HIGH, h, l));
    }
}

// What 16 h + l stands for where LOW is 2 or 1, rounded down, plus 128: see nibbles.py.
template <int LOW>
constexpr int expanded(int u) {
    const int c = u + (8 >> LOW) - 128;
    return 128 + (c * (192 + c * c / 256) >> 8);
}
template <int LOW>
SC_INLINE vb expanded(const uint8_t* high, const uint8_t* low, int j) {
#if defined(__AVX512VBMI__)
    // A permutation looks at six bits of its indices: those of h and l side by side.
    vb levels;
    for (int i = 0; i < VECTOR_BYTES; ++i) levels[i] = static_cast<uint8_t>(expanded<LOW>(4 * i));
    vq turns{};  // what is not of h is masked
    for (int i = 0; i < LANES / 2; ++i) turns[i] = 8 * i < 32 ? 2 : 62;
    const auto h = _mm512_maskz_rolv_epi64(0xff, bits_as<__m512i>(plane_bytes(high, j)),
                                           bits_as<__m512i>(turns));
    const vq codes = where(0x3c3c3c3c3c3c3c3c, bits_as<vq>(h), low_bits<LOW, 2>(low, j));
    return bits_as<vb>(_mm512_maskz_permutexvar_epi8(~uint64_t{}, bits_as<__m512i>(codes),
                                                     bits_as<__m512i>(levels)));
#else
    // Even and odd bytes as 16 bits, in which all of it fits.
    constexpr uint8_t MIDDLE_CODE = 128 - (8 >> LOW);
    const vs c = bits_as<vs>(joined<LOW>(high, low, j) - MIDDLE_CODE);
    const auto level = [](vs c) SC_ALWAYS { return c * (192 + (c * c >> 8)) >> 8; };
    return bits_as<vb>((level(c << 8 >> 8) & 0xff) | level(c >> 8) << 8) ^ 0x80;
#endif
}

// Vector j of the bytes that stand for weights: less 128, plus UNKNOWN, and scaled.
template <int LOW>
SC_INLINE vb nibbles(const uint8_t* high, const uint8_t* low, int j) {
    if constexpr (LOW == 2 || LOW == 1)
        return expanded<LOW>(high, low, j);
    else
        return joined<LOW>(high, low, j);
}

// sums + the sums of four neighbours of (u - MIDDLE) x, |x| <= 127: VNNI multiplies u as it is.
#if defined(__AVX512VNNI__)
constexpr int MIDDLE = 0;
SC_INLINE vi dot4(vi sums, vb u, vb x) {
    return bits_as<vi>(_mm512_dpbusd_epi32(bits_as<__m512i>(sums), bits_as<__m512i>(u),
                                           bits_as<__m512i>(x)));
}
#elif defined(__AVX2__) && !defined(__AVX512F__)
constexpr int MIDDLE = 128;
SC_INLINE vi dot4(vi sums, vb u, vb x) {
    // |q| x sign(q) fits: sums of two are at most 2 * 128 * 127 < 2^15.
    const __m256i q = bits_as<__m256i>(u ^ 0x80);
    const __m256i pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(bits_as<__m256i>(x), q));
    return sums + bits_as<vi>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#else
constexpr int MIDDLE = 128;
SC_INLINE vi dot4(vi sums, vb u, vb x) {
    // Even and odd bytes as 16 bits: products, and sums of two, fit as above.
    const vs q = bits_as<vs>(u ^ 0x80), v = bits_as<vs>(x);
    const vi pairs = bits_as<vi>((q << 8 >> 8) * (v << 8 >> 8) + (q >> 8) * (v >> 8));
    return sums + (pairs << 16 >> 16) + (pairs >> 16);
}
#endif

// What a byte leaves out: the mean of the bits below, or what an expanded one was rounded by.
template <int LOW>
constexpr float UNKNOWN = LOW == 4 ? 0.0f : LOW == 0 ? 7.5f : 0.5f;

#if defined(__AVX512F__)
SC_INLINE vi permute_fours(vi x, vi from) {
    return bits_as<vi>(_mm512_maskz_permutexvar_epi32(0xffff, bits_as<__m512i>(from),
                                                      bits_as<__m512i>(x)));
}
SC_INLINE vi place_bytes(vi x, vi from) {
    return bits_as<vi>(_mm512_shuffle_epi8(bits_as<__m512i>(x), bits_as<__m512i>(from)));
}
#elif defined(__AVX2__)
SC_INLINE vi permute_fours(vi x, vi from) {
    return bits_as<vi>(_mm256_permutevar8x32_epi32(bits_as<__m256i>(x), bits_as<__m256i>(from)));
}
SC_INLINE vi place_bytes(vi x, vi from) {
    return bits_as<vi>(_mm256_shuffle_epi8(bits_as<__m256i>(x), bits_as<__m256i>(from)));
}
#endif

// Weights become floats times this: their integers lie in the highest byte of 32 bits.
constexpr float UNIT = 1 << 24;

// w[v] = UNIT (u - 128) for the bytes v * LANES and on.
SC_INLINE void widen_bytes(vf (&w)[4], vb u) {
    u ^= 0x80;
#if defined(__AVX2__)
    // First each 128 bits get the four bytes that they hold in w[0], those in w[1], ..
    vi from{};
    for (int i = 0; i < LANES; ++i) from[i] = i % 4 * (LANES / 4) + i / 4;
    const vi fours = permute_fours(bits_as<vi>(u), from);
    for (int v = 0; v < 4; ++v) {
        for (int i = 0; i < LANES; ++i) from[i] = (4 * v + i % 4) << 24 | 0x808080;  // 0x80: 0
        w[v] = __builtin_convertvector(place_bytes(fours, from), vf);
    }
#else
    for (int v = 0; v < 4; ++v) {
        vf x{};
        for (int i = 0; i < LANES; ++i) x[i] = UNIT * static_cast<int8_t>(u[v * LANES + i]);
        w[v] = x;
    }
#endif
}

// w[v] = UNIT (u + UNKNOWN - 128) for the bytes u of vector j.
template <int LOW>
SC_INLINE void widen_nibbles(vf (&w)[4], const uint8_t* high, const uint8_t* low, int j) {
    if constexpr (LOW > 0) {
        widen_bytes(w, nibbles<LOW>(high, low, j));
        if constexpr (LOW < 4)
            for (vf& x : w) x += UNIT * UNKNOWN<LOW>;
        return;
    }
#if defined(__AVX512F__)
    // A nibble picks its float; a permutation looks at no other bits of its indices.
    vf table{};
    for (int i = 0; i < LANES; ++i)
        table[i] = UNIT * (static_cast<float>(16 * i - 128) + UNKNOWN<0>);
    const auto pick = [&](__m512i i) SC_ALWAYS {
        return bits_as<vf>(_mm512_maskz_permutexvar_ps(0xffff, i, bits_as<__m512>(table)));
    };
    for (int v = 0; v < 2; ++v) {
        const auto i = _mm512_maskz_cvtepu8_epi32(0xffff, load_bytes<__m128i>(high + 16 * v));
        w[v] = pick(i);
        w[2 + v] = pick(_mm512_maskz_srli_epi32(0xffff, i, 4));
    }
#else
    widen_bytes(w, nibbles<0>(high, low, j));
    for (vf& x : w) x += UNIT * UNKNOWN<0>;
#endif
}

}  // namespace sc
