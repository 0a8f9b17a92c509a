// Lists of chosen units: list[0] says how many, then come their indices, ascending.
//   select_above<MAGNITUDE, N>        those that score above a threshold, and not above another
//   select_best<MAGNITUDE, N, G, K>   of each G units in order the K best, of equal ones the first
//   select_likely<N, K>               the K best, and all whose share of the sum of exponentials is
//                                     above the one whose logarithm is given; no scales
//   select_all<N>                     all
// The score of unit i is x[i] or |x[i]|, times scales[i] unless scales is null.
#pragma once
#include <algorithm>
#include <cmath>

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

// Appends those of the N lanes of `values` whose `chosen` is not 0; returns the new count.
// `to` needs room for N more.
template <int N>
SC_INLINE int64_t append_lanes(int32_t* to, int64_t count, vi values, vi chosen, Lanes<N>) {
#if defined(__AVX512F__)
    if constexpr (N == LANES) {
        __m512i lanes = bits_as<__m512i>(chosen);
        __mmask16 mask = _mm512_test_epi32_mask(lanes, lanes);
        __m512i packed = _mm512_maskz_compress_epi32(mask, bits_as<__m512i>(values));
        std::memcpy(to + count, &packed, sizeof packed);
        return count + __builtin_popcount(mask);
    }
#endif
    // Every lane is written; one that is not chosen is written over by the next.
    for (int j = 0; j < N; ++j) {
        to[count] = values[j];
        count -= chosen[j];
    }
    return count;
}

template <bool MAGNITUDE, int N>
inline void select_above(int32_t* __restrict list, const float* __restrict x,
                         const float* __restrict scales, float threshold, float below = INF) {
    int64_t count = 0;
    each_vector<N>([&](int i, auto n) {
        const vf s = score<MAGNITUDE>(x, scales, i, n);
        vi chosen = (s > threshold) & (s <= below);
        count = append_lanes(list + 1, count, i + lane_numbers(), chosen, n);
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

SC_INLINE vi load_keys(const int32_t* keys) {
    vi x;
    std::memcpy(&x, keys, sizeof x);
    return x;
}

// How many of keys[0..room) are at least `least`; `room` is whole vectors.
SC_INLINE int64_t count_from(const int32_t* keys, int64_t room, int32_t least) {
    vi truths{};
    for (int64_t i = 0; i < room; i += LANES) truths += load_keys(keys + i) >= least;
    return count_lanes(truths);
}

// The K-th largest of keys[0..room), or a smaller one that no more than K + SLACK reach.
template <int K, int SLACK = 0>
inline int32_t kth_largest(const int32_t* keys, int64_t room) {
    // Bit by bit from the highest, until few enough keys are above.
    uint32_t bits = 0x80000000u;
    int64_t above = room;
    for (int bit = 31; bit >= 0 && above > K + SLACK; --bit) {
        const uint32_t higher = bits + (1u << bit);
        const int64_t found = count_from(keys, room, static_cast<int32_t>(higher));
        if (found < K) continue;
        bits = higher;
        above = found;
    }
    return static_cast<int32_t>(bits);
}

// Appends the places of the K largest of keys[0..n), of equal ones the first; `keys` has whole
// vectors, INT32_MIN at the end.
template <int K>
inline int64_t append_best(int32_t* __restrict indices, int64_t count,
                           const int32_t* __restrict keys, const int32_t* __restrict places,
                           int64_t n) {
    const int64_t room = round_up(n, LANES), whole = n / LANES * LANES;
    const int32_t least = kth_largest<K>(keys, room);
    int64_t equal = K - (least == INT32_MAX ? 0 : count_from(keys, room, least + 1));
    int64_t end = 0;  // keys equal to the least are taken before it
    for (; equal > 0; ++end) equal -= keys[end] == least;
    const vi lane = lane_numbers();
    for (int64_t i = 0; i < whole; i += LANES) {
        const vi key = load_keys(keys + i);
        const vi chosen = (key > least) | ((key == least) & (lane < static_cast<int32_t>(end - i)));
        count = append_lanes(indices, count, load_keys(places + i), chosen, Lanes<LANES>{});
    }
    for (int64_t i = whole; i < n; ++i)
        if (keys[i] > least || (keys[i] == least && i < end)) indices[count++] = places[i];
    return count;
}

// keys[] and places[] = those of G keys that may be among the K largest, places counted from
// `first` on; returns how many. key(i, Lanes<n>{}) is n keys from i on. K of the largest of every
// 8 keys are a floor, which few keys reach: the others are never written down.
template <int G, int K, class Key>
inline int64_t keep_large(int32_t* __restrict keys, int32_t* __restrict places, int32_t first,
                          Key key) {
    constexpr int64_t WIDTH = 8 * LANES, WHOLE = G / WIDTH * WIDTH;
    alignas(64) int32_t tops[WHOLE / 8];
    for (int64_t i = 0; i < WHOLE; i += WIDTH) {
        vi top = key(i, Lanes<LANES>{});
        for (int64_t j = LANES; j < WIDTH; j += LANES) {
            const vi next = key(i + j, Lanes<LANES>{});
            top = next > top ? next : top;
        }
        std::memcpy(tops + i / 8, &top, sizeof top);
    }
    const int32_t floor = kth_largest<K, K / 8>(tops, WHOLE / 8);
    int64_t count = 0;
    each_vector<G>([&](int i, auto n) {
        const vi found = key(i, n), large = found >= floor;
        append_lanes(places, count, first + i + lane_numbers(), large, n);
        count = append_lanes(keys, count, found, large, n);
    });
    std::fill(keys + count, keys + round_up(count, LANES), INT32_MIN);
    return count;
}

template <bool MAGNITUDE, int N, int G, int K>
inline void select_best(int32_t* __restrict list, const float* __restrict x,
                        const float* __restrict scales) {
    static_assert(K <= G);
    alignas(64) int32_t keys[round_up(G, LANES)], places[round_up(G, LANES)];
    int64_t count = 0;
    auto group = [&](int64_t first, auto size) {
        constexpr int SIZE = size, BEST = SIZE < K ? SIZE : K;
        constexpr bool MANY = SIZE >= 1024 && BEST > 0 && 16 * BEST <= SIZE;
        const auto start = static_cast<int32_t>(first);
        auto key = [&](int64_t i, auto n) SC_ALWAYS {
            return ordered(score<MAGNITUDE>(x, scales, first + i, n));
        };
        int64_t kept = SIZE;
        if constexpr (MANY) {
            kept = keep_large<SIZE, BEST>(keys, places, start, key);
        } else {
            std::fill(keys + SIZE / LANES * LANES, keys + round_up(SIZE, LANES), INT32_MIN);
            each_vector<SIZE>([&](int i, auto n) {
                const vi found = key(i, n), place = start + i + lane_numbers();
                std::memcpy(keys + i, &found, n * sizeof *keys);
                std::memcpy(places + i, &place, sizeof place);
            });
        }
        if constexpr (BEST > 0) count = append_best<BEST>(list + 1, count, keys, places, kept);
    };
    for (int64_t first = 0; first + G <= N; first += G) group(first, Lanes<G>{});
    if constexpr (N % G != 0) group(N / G * G, Lanes<N % G>{});
    list[0] = static_cast<int32_t>(count);
}

// The logarithm of the sum of exponentials.
template <int N>
inline float log_sum(const float* x) {
    auto there = [&](int i, auto n) SC_ALWAYS {
        return lane_numbers() < static_cast<int32_t>(n) ? load(x + i, n) : splat(-INF);
    };
    vf top = splat(-INF), sum{};
    each_vector<N>([&](int i, auto n) { top = vmax(top, there(i, n)); });
    const float peak = hmax(top);
    each_vector<N>([&](int i, auto n) { sum += exp(there(i, n) - peak); });
    return peak + std::log(hsum(sum));
}

template <int N, int K>
inline void select_likely(int32_t* __restrict list, const float* __restrict x, float log_share) {
    select_above<false, N>(list, x, nullptr, log_sum<N>(x) + log_share);
    // Of fewer than K, all are among the K best.
    if (list[0] < K) select_best<false, N, N, K>(list, x, nullptr);
}

template <int N>
inline void select_all(int32_t* list) {
    for (int32_t i = 0; i < N; ++i) list[1 + i] = i;
    list[0] = N;
}

}  // namespace sc
