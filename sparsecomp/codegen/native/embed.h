// One row of an embedding table [rows][D] as floats.
#pragma once
#include "matrix.h"

namespace sc {

template <class T, int D>
inline void embed_row(float* __restrict y, Matrix<T, D> table, int64_t id) {
    widen_part<D>(y, table.row(id), 0);
}

}  // namespace sc
