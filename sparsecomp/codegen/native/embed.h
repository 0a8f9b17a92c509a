// One row of an embedding table [rows][D] of T as floats.
#pragma once
#include "simd.h"

namespace sc {

template <class T, int D>
inline void embed_row(float* __restrict y, const T* __restrict table, int64_t id) {
    widen_row<D>(y, table + id * D);
}

}  // namespace sc
