// Where weights lie: what a kernel is given instead of a bare pointer.
//   Matrix<T, K>              rows of K weights, to multiply; Columns<T, K> are rows to add
//   Neurons<T, GATED, K, D>   a feed-forward block packed by neuron
// T is float, bf16, int8, int6, int5 or int4. Both hand out rows, for dot_row, add_rows and widen_part; a
// kernel does not see which T it works on.
#pragma once
#include "quantized.h"
#include "row.h"

namespace sc {

// Bytes of a row of K weights.
template <class T, int K>
constexpr int64_t row_bytes() {
    if constexpr (is_quantized<T>)
        return Planes<K>::COARSE + Planes<K>::template FINE<T>;
    else
        return K * sizeof(T);
}

// Rows in order are the hardware prefetcher's own: asking for all of them limits it to what the
// first-level cache can wait for. The first 512 bytes of a row 4 KiB ahead bring it over the end
// of a small page.
template <class T, int K, Order O = Order::spread, bool = is_quantized<T>>
struct Matrix {
    static constexpr int64_t AHEAD_BYTES = 4096;
    static constexpr int64_t AHEAD = max(1, AHEAD_BYTES / row_bytes<T, K>());  // in rows
    // Weights to ask for of a row ahead: of rows in order, and of listed ones.
    static constexpr int ASK = 512 / sizeof(T), ASK_LISTED = ASK;
    static constexpr int AT_ONCE = 1;  // rows to multiply at once
    using Row = const T*;
    const T* start;
    const T* row(int64_t n) const { return start + n * K; }
    const T* ahead(int64_t n) const { return row(n) + AHEAD_BYTES / sizeof(T); }
    Matrix from(int64_t n) const { return {row(n)}; }
};

// All high planes, then on the next line all low ones. One row of int8 after the other is multiplied
// as fast as memory gives them: short rows in order are the hardware prefetcher's; long ones, and
// those of a list, are asked for whole. Of fewer bits two at once are multiplied, which share loads
// of activations; no prefetcher sees an order in that, so they are asked for too.
template <class T, int K, Order O>
struct Matrix<T, K, O, true> {
    using P = Planes<K>;
    static constexpr int AT_ONCE = T::LOW < 4 ? 2 : 1;
    static constexpr int64_t AHEAD = max(2, (AT_ONCE > 1 ? 8192 : 4096) / P::COARSE);
    static constexpr int ASK = AT_ONCE > 1 || P::NIBBLES >= 512 ? K : 0, ASK_LISTED = K;
    const uint8_t *high, *low;
    using Row = QuantizedRow<T, K, O>;
    Row row(int64_t n) const { return {high + n * P::COARSE, low + n * P::template FINE<T>}; }
    Row ahead(int64_t n) const { return row(n + AHEAD); }
    Matrix from(int64_t n) const {
        const auto first = row(n);
        return {first.high, first.low};
    }
};

template <class T, int K>
using Columns = Matrix<T, K, Order::plain>;

// A matrix of `rows` rows.
template <class T, int K, Order O = Order::spread>
SC_INLINE Matrix<T, K, O> matrix(const void* bytes, int64_t rows) {
    if constexpr (is_quantized<T>) {
        auto* high = static_cast<const uint8_t*>(bytes);
        return {high, high + round_up(rows * Planes<K>::COARSE, 64)};
    } else {
        return {static_cast<const T*>(bytes)};
    }
}
template <class T, int K>
SC_INLINE Columns<T, K> columns(const void* bytes, int64_t count) {
    return matrix<T, K, Order::plain>(bytes, count);
}

// One neuron: [gate row K (gated only) | up row K | down row D], each part padded to 64 bytes.
template <class T, bool GATED, int K, int D, bool = is_quantized<T>>
struct Neurons {
    static constexpr int64_t ALIGN = 64 / sizeof(T);
    static constexpr int64_t UP = GATED ? round_up(K, ALIGN) : 0;
    static constexpr int64_t DOWN = UP + round_up(K, ALIGN);
    static constexpr int64_t STRIDE = DOWN + round_up(D, ALIGN);
    const T* start;
    const T* gate(int64_t n) const { return start + n * STRIDE; }
    const T* up(int64_t n) const { return start + n * STRIDE + UP; }
    const T* down(int64_t n) const { return start + n * STRIDE + DOWN; }
};

// Three sheets, each from a line on. Of a neuron the first holds the high planes of [gate (gated
// only) | up], the second that of down, the third the low planes of [gate | up | down].
template <class T, bool GATED, int K, int D>
struct Neurons<T, GATED, K, D, true> {
    using In = Planes<K>;
    using Out = Planes<D>;
    static constexpr int64_t FINE = In::template FINE<T>;
    static constexpr int INPUTS = GATED ? 2 : 1;
    static constexpr int64_t FIRST = INPUTS * In::COARSE;
    static constexpr int64_t SECOND = Out::COARSE;
    static constexpr int64_t THIRD = INPUTS * FINE + Out::template FINE<T>;
    const uint8_t *first, *second, *third;
    SpreadRow<T, K> gate(int64_t n) const { return {first + n * FIRST, third + n * THIRD}; }
    SpreadRow<T, K> up(int64_t n) const {
        constexpr int BEFORE = INPUTS - 1;
        return {first + n * FIRST + BEFORE * In::COARSE, third + n * THIRD + BEFORE * FINE};
    }
    PlainRow<T, D> down(int64_t n) const {
        return {second + n * SECOND, third + n * THIRD + INPUTS * FINE};
    }
    // The high planes alone: the same block in 4 bits.
    Neurons<int4, GATED, K, D> coarse() const { return {first, second, third}; }
};

// A block of `count` neurons.
template <class T, bool GATED, int K, int D>
SC_INLINE Neurons<T, GATED, K, D> neurons(const void* bytes, int64_t count) {
    if constexpr (is_quantized<T>) {
        using Sheets = Neurons<T, GATED, K, D>;
        auto* first = static_cast<const uint8_t*>(bytes);
        auto* second = first + round_up(count * Sheets::FIRST, 64);
        return {first, second, second + round_up(count * Sheets::SECOND, 64)};
    } else {
        return {static_cast<const T*>(bytes)};
    }
}

}  // namespace sc
