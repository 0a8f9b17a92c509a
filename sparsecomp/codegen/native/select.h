// Lists of chosen units: list[0] says how many, then come their indices, ascending.
//   select_above<MAGNITUDE, N>        those that score above a threshold
//   select_best<MAGNITUDE, N, G, K>   of each G units in order the K best, of equal ones the first
// The score of unit i is x[i] or |x[i]|, times scales[i] unless scales is null.
#pragma once
#include <algorithm>

#include "simd.h"

namespace sc {

template <bool MAGNITUDE, int N>
SC_INLINE vf score(const float* x, const float* scales, int64_t i, Lanes<N> n) {
    vf s = load(x + i, n);
    if constexpr (MAGNITUDE) s = vmax(s, -s);
    return scales ? s * load(scales + i, n) : s;
}

SC_INLINE vi lane_numbers() {
    vi lane{};
    for (int j = 0; j < LANES; ++j) lane[j] = j;
    return lane;
}

// Appends first + j for each of the N lanes j of `chosen` that is not 0; returns the new count.
// `indices` needs room for N more.
template <int N>
SC_INLINE int64_t append_lanes(int32_t* indices, int64_t count, int32_t first, vi chosen,
                               Lanes<N>) {
#if defined(__AVX512F__)
    if constexpr (N == LANES) {
        __m512i lanes = bits_as<__m512i>(chosen);
        __mmask16 mask = _mm512_test_epi32_mask(lanes, lanes);
        __m512i packed = _mm512_maskz_compress_epi32(mask, bits_as<__m512i>(first + lane_numbers()));
        std::memcpy(indices + count, &packed, sizeof packed);
        return count + __builtin_popcount(mask);
    }
#endif
    // Every lane is written; one that is not chosen is written over by the next.
    for (int j = 0; j < N; ++j) {
        indices[count] = first + j;
        count -= chosen[j];
    }
    return count;
}

template <bool MAGNITUDE, int N>
inline void select_above(int32_t* __restrict list, const float* __restrict x,
                         const float* __restrict scales, float threshold) {
    int64_t count = 0;
    each_vector<N>([&](int i, auto n) {
        vi chosen = score<MAGNITUDE>(x, scales, i, n) > threshold;
        count = append_lanes(list + 1, count, i, chosen, n);
    });
    list[0] = static_cast<int32_t>(count);
}

// Integers in the order of floats; the two zeros are equal.
SC_INLINE vi ordered(vf x) {
    vi bits = bits_as<vi>(x + 0.0f);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

SC_INLINE int64_t count_lanes(vi truths) {
    using four = int32_t __attribute__((vector_size(16)));
    four q[LANES / 4], sum{};
    std::memcpy(q, &truths, sizeof q);
    for (int j = 0; j < LANES / 4; ++j) sum += q[j];
    return -(sum[0] + sum[1] + sum[2] + sum[3]);
}

// Appends first + i for the K largest of keys[0..G); `keys` has whole vectors, INT32_MIN at the end.
template <int G, int K>
inline int64_t append_best(int32_t* __restrict indices, int64_t count, int32_t first,
                           const int32_t* __restrict keys) {
    constexpr int64_t ROOM = round_up(G, LANES);
    auto at = [&](int64_t i) {
        vi x;
        std::memcpy(&x, keys + i, sizeof x);
        return x;
    };
    auto count_from = [&](int32_t least) {
        vi truths{};
        for (int64_t i = 0; i < ROOM; i += LANES) truths += at(i) >= least;
        return count_lanes(truths);
    };
    // The least of the K largest keys, bit by bit from the highest, until K keys are above.
    uint32_t bits = 0x80000000u;
    int64_t above = G;
    for (int bit = 31; bit >= 0 && above > K; --bit) {
        uint32_t higher = bits + (1u << bit);
        int64_t found = count_from(static_cast<int32_t>(higher));
        if (found < K) continue;
        bits = higher;
        above = found;
    }
    int32_t least = static_cast<int32_t>(bits);
    int64_t equal = K - (least == INT32_MAX ? 0 : count_from(least + 1));
    int64_t end = 0;  // keys equal to the least are taken before it
    for (; equal > 0; ++end) equal -= keys[end] == least;
    vi lane = lane_numbers();
    each_vector<G>([&](int i, auto n) {
        vi key = at(i);
        vi chosen = (key > least) | ((key == least) & (lane < static_cast<int32_t>(end - i)));
        count = append_lanes(indices, count, first + i, chosen, n);
    });
    return count;
}

template <bool MAGNITUDE, int N, int G, int K>
inline void select_best(int32_t* __restrict list, const float* __restrict x,
                        const float* __restrict scales) {
    static_assert(K <= G);
    alignas(64) int32_t keys[round_up(G, LANES)];
    int64_t count = 0;
    auto group = [&](int64_t first, auto size) {
        constexpr int SIZE = size;
        std::fill_n(keys, round_up(SIZE, LANES), INT32_MIN);
        each_vector<SIZE>([&](int i, auto n) {
            vi key = ordered(score<MAGNITUDE>(x, scales, first + i, n));
            std::memcpy(keys + i, &key, n * sizeof *keys);
        });
        constexpr int BEST = SIZE < K ? SIZE : K;
        if constexpr (BEST > 0)
            count = append_best<SIZE, BEST>(list + 1, count, static_cast<int32_t>(first), keys);
    };
    for (int64_t first = 0; first + G <= N; first += G) group(first, Lanes<G>{});
    if constexpr (N % G != 0) group(N / G * G, Lanes<N % G>{});
    list[0] = static_cast<int32_t>(count);
}

}  // namespace sc
