// Vectors of floats: one source for AVX-512, AVX2 and NEON through the compiler's vector extension.
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace sc {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

#define SC_ALWAYS __attribute__((always_inline))  // what lambdas take
#define SC_INLINE inline SC_ALWAYS

// Brain float: the upper half of an f32. Only stored, never computed with.
struct bf16 {
    uint16_t bits;
};

using vf = float __attribute__((vector_size(LANES * 4)));
using vi = int32_t __attribute__((vector_size(LANES * 4)));
using vu = uint32_t __attribute__((vector_size(LANES * 4)));
using vh = uint16_t __attribute__((vector_size(LANES * 2)));
using quad = float __attribute__((vector_size(16)));
// The same in memory: any alignment, any declared type.
typedef float vf_mem __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint16_t vh_mem __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef float quad_mem __attribute__((vector_size(16), aligned(4), may_alias));

// A number of lanes known to the compiler; a row is full vectors and at most one shorter tail.
template <int N>
using Lanes = std::integral_constant<int, N>;

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

SC_INLINE vf splat(float x) { return x - vf{}; }
SC_INLINE vf vmax(vf a, vf b) { return a > b ? a : b; }

template <class To, class From>
SC_INLINE To bits_as(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}

// GCC takes five instructions for this conversion, x86 has one. (The masked form is the same
// instruction without the warnings that GCC 12 gives on its own header.)
SC_INLINE vu zero_extend(vh h) {
#if defined(__AVX512F__)
    return bits_as<vu>(_mm512_maskz_cvtepu16_epi32(0xffff, bits_as<__m256i>(h)));
#elif defined(__AVX2__)
    return bits_as<vu>(_mm256_cvtepu16_epi32(bits_as<__m128i>(h)));
#else
    return __builtin_convertvector(h, vu);
#endif
}

SC_INLINE vf widen(vh h) { return bits_as<vf>(zero_extend(h) << 16); }

// Round to nearest, ties to even; a NaN stays a NaN.
SC_INLINE vh narrow(vf x) {
    vu u = bits_as<vu>(x);
    vu rounded = u + 0x7fffu + ((u >> 16) & 1u);
    return __builtin_convertvector((x == x ? rounded : (u | 0x400000u)) >> 16, vh);
}

// Loads the first N lanes as floats; the others are 0 and their memory is not touched.
template <int N = LANES>
SC_INLINE vf load(const float* p, Lanes<N> = {}) {
    if constexpr (N == LANES) return *reinterpret_cast<const vf_mem*>(p);
#if defined(__AVX512VL__)
    return bits_as<vf>(_mm512_maskz_loadu_ps((1 << N) - 1, p));
#else
    vf x{};
    std::memcpy(&x, p, N * sizeof *p);
    return x;
#endif
}

template <int N = LANES>
SC_INLINE vf load(const bf16* p, Lanes<N> = {}) {
    if constexpr (N == LANES) return widen(*reinterpret_cast<const vh_mem*>(p));
#if defined(__AVX512VL__) && defined(__AVX512BW__)
    return widen(bits_as<vh>(_mm256_maskz_loadu_epi16((1 << N) - 1, p)));
#else
    vh x{};
    std::memcpy(&x, p, N * sizeof *p);
    return widen(x);
#endif
}

SC_INLINE quad load_quad(const float* p) { return *reinterpret_cast<const quad_mem*>(p); }
SC_INLINE void store_quad(float* p, quad x) { *reinterpret_cast<quad_mem*>(p) = x; }

// Stores the first N lanes.
template <int N = LANES>
SC_INLINE void store(float* p, vf x, Lanes<N> = {}) {
    if constexpr (N == LANES)
        *reinterpret_cast<vf_mem*>(p) = x;
    else
        std::memcpy(p, &x, N * sizeof *p);
}

template <int N = LANES>
SC_INLINE void store(bf16* p, vf x, Lanes<N> = {}) {
    vh h = narrow(x);
    if constexpr (N == LANES)
        *reinterpret_cast<vh_mem*>(p) = h;
    else
        std::memcpy(p, &h, N * sizeof *p);
}

// Calls f(offset, Lanes<n>) over a row of N elements: every full vector, then the tail if any.
template <int N, class F>
SC_INLINE void each_vector(F&& f) {
    for (int i = 0; i + LANES <= N; i += LANES) f(i, Lanes<LANES>{});
    if constexpr (N % LANES != 0) f(N / LANES * LANES, Lanes<N % LANES>{});
}

// Calls f(Lanes<0>{}), .. f(Lanes<N - 1>{}).
template <class F, int... i>
SC_INLINE void each_constant(F&& f, std::integer_sequence<int, i...>) {
    (f(Lanes<i>{}), ...);
}
template <int N, class F>
SC_INLINE void each_constant(F&& f) {
    each_constant(f, std::make_integer_sequence<int, N>{});
}

// The first N lanes; the others become 0.
template <int N>
SC_INLINE vf keep(vf x, Lanes<N>) {
    if constexpr (N == LANES) return x;
    vf y{};
    for (int i = 0; i < N; ++i) y[i] = x[i];
    return y;
}

// Asks for the N elements at p, to be in the second-level cache when they are needed.
template <int N, class T>
SC_INLINE void prefetch(const T* p) {
    for (unsigned i = 0; i < N * sizeof *p; i += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(p) + i, 0, 2);
}

// A row of N elements of T as floats.
template <int N, class T>
SC_INLINE void widen_row(float* __restrict y, const T* __restrict x) {
    each_vector<N>([&](int i, auto n) { store(y + i, load(x + i, n), n); });
}

// Picks lane I(i) of the 2*LANES lanes of (a, b), for each i.
template <class I, int... i>
SC_INLINE vf shuffle(vf a, vf b, I pick, std::integer_sequence<int, i...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, pick(i)...);
#else
    return __builtin_shuffle(a, b, vi{pick(i)...});
#endif
}

// Lanes with bit H set come from b, the others from a; each stays where it is.
template <int H>
struct KeepHalves {
    constexpr int operator()(int i) const { return i & H ? LANES + i : i; }
};
// The lanes that KeepHalves<H> leaves out: a's upper ones move down, b's lower ones move up.
template <int H>
struct CrossHalves {
    constexpr int operator()(int i) const { return i & H ? LANES + (i ^ H) : i ^ H; }
};
// The two rows of a transposition step over bit H.
template <int H>
struct LowHalves {
    constexpr int operator()(int i) const { return i & H ? LANES + (i ^ H) : i; }
};
template <int H>
struct HighHalves {
    constexpr int operator()(int i) const { return i & H ? LANES + i : i ^ H; }
};
// Every lane with its neighbour.
struct SwapPairs {
    constexpr int operator()(int i) const { return i ^ 1; }
};

template <class I>
SC_INLINE vf shuffle(vf a, vf b, I pick) {
    return shuffle(a, b, pick, std::make_integer_sequence<int, LANES>{});
}

template <int H>
SC_INLINE vf fold(vf a, vf b) {
    return shuffle(a, b, KeepHalves<H>{}) + shuffle(a, b, CrossHalves<H>{});
}

// The sums of the lanes of four vectors, in one go.
SC_INLINE quad hsum4(vf a, vf b, vf c, vf d) {
    vf s = fold<2>(fold<1>(a, b), fold<1>(c, d));
    quad q[LANES / 4];
    std::memcpy(q, &s, sizeof s);
    if constexpr (LANES == 16) return (q[0] + q[1]) + (q[2] + q[3]);
    if constexpr (LANES == 8) return q[0] + q[1];
    return q[0];
}

SC_INLINE float hsum(vf a) {
    quad q[LANES / 4];
    std::memcpy(q, &a, sizeof a);
    quad s = q[0];
    for (int i = 1; i < LANES / 4; ++i) s += q[i];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

// The largest lane, of floats or integers.
template <class V>
SC_INLINE auto hmax(V a) {
    typedef std::remove_reference_t<decltype(a[0])> Lane;
    typedef Lane four __attribute__((vector_size(16)));
    four q[LANES / 4];
    std::memcpy(q, &a, sizeof a);
    four s = q[0];
    for (int i = 1; i < LANES / 4; ++i) s = s > q[i] ? s : q[i];
    const Lane low = s[0] > s[1] ? s[0] : s[1], high = s[2] > s[3] ? s[2] : s[3];
    return low > high ? low : high;
}

template <int H = 1>
SC_INLINE void transpose(vf (&v)[LANES]) {
    for (int i = 0; i < LANES; ++i) {
        if (i & H) continue;
        vf low = shuffle(v[i], v[i | H], LowHalves<H>{});
        v[i | H] = shuffle(v[i], v[i | H], HighHalves<H>{});
        v[i] = low;
    }
    if constexpr (2 * H < LANES) transpose<2 * H>(v);
}

constexpr float INF = std::numeric_limits<float>::infinity();

// e^x, relative error below 2e-7; below the smallest normal number it is 0.
SC_INLINE vf exp(vf x) {
    // x = n ln 2 + r with |r| <= ln(2)/2; adding 1.5 * 2^23 rounds to an integer in the low bits.
    constexpr float SHIFT = 12582912.0f;
    vf shifted = x * 1.44269504f + SHIFT;
    vf n = shifted - SHIFT;
    vf r = x - n * 0.693359375f - n * -2.12194440e-4f;
    vf p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    vf y = bits_as<vf>(bits_as<vu>(p) + (bits_as<vu>(shifted) << 23));
    y = x < -87.3365f ? vf{} : y;
    return x > 88.7228f ? splat(INF) : y;
}

SC_INLINE vf sigmoid(vf x) { return 1.0f / (1.0f + exp(-x)); }

// Relative error below 1e-6.
SC_INLINE vf tanh(vf x) {
    vf z = x * x;
    vf p = splat(-5.70498872745e-3f);
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    vf small = x + x * z * p;
    vf large = 1.0f - 2.0f / (exp(2.0f * x) + 1.0f);
    return z < 0.390625f ? small : large;
}

// Absolute error below 1e-6 (Abramowitz and Stegun 7.1.26).
SC_INLINE vf erf(vf x) {
    vf a = vmax(x, -x);
    vf t = 1.0f / (1.0f + 0.3275911f * a);
    vf p = splat(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vf y = 1.0f - p * t * exp(-a * a);
    return x < 0.0f ? -y : y;
}

inline float exp(float x) { return exp(splat(x))[0]; }
inline float sigmoid(float x) { return sigmoid(splat(x))[0]; }
inline float tanh(float x) { return tanh(splat(x))[0]; }
inline float erf(float x) { return erf(splat(x))[0]; }

}  // namespace sc
