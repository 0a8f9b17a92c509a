// RUN: sparsecomp-opt %s -p canonicalize | filecheck %s

// What changes nothing goes: casts to the type a value has, copies, dropout, whole slices, `+ 0`.
func.func @nothing(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32> {
  %0 = aten.to.dtype(%x, dtype = f32) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
  %1 = aten.contiguous(%0) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
  %2 = aten.dropout(%1, p = 0.1, train = false) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
  %3 = aten.slice.Tensor(%2, dim = 2, start = 0, end = 8) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
  %4 = aten.slice.Tensor(%3, dim = 1, start = 0) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
  %5 = aten.add.Scalar(%4, other = 0.0) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
  %6 = aten.expand(%5, size = [1, s, 8]) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
  %7 = aten.transpose.int(%6, dim0 = 1, dim1 = 1) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
  func.return %7 : tensor<1x?x8xf32>
}
// CHECK-LABEL: func.func @nothing(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    func.return %x : tensor<1x?x8xf32>

// Dropout that drops, a cast that rounds and parts that are not the whole stay.
func.func @something(%x: tensor<1x?x8xf32>, %t: tensor<64x8xf32>) -> (tensor<1x?x8xf32>, tensor<1x?x8xf16>, tensor<1x?x7xf32>, tensor<?x8xf32>) {
  %0 = aten.dropout(%x, p = 0.1, train = true) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
  %1 = aten.to.dtype(%x, dtype = f16) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf16>
  %2 = aten.slice.Tensor(%x, dim = 2, end = -1) : (tensor<1x?x8xf32>) -> tensor<1x?x7xf32>
  %3 = aten.slice.Tensor(%t, dim = 0, end = s) : (tensor<64x8xf32>) -> tensor<?x8xf32>
  func.return %0, %1, %2, %3 : tensor<1x?x8xf32>, tensor<1x?x8xf16>, tensor<1x?x7xf32>, tensor<?x8xf32>
}
// CHECK-LABEL: func.func @something(%x: tensor<1x?x8xf32>, %t: tensor<64x8xf32>) -> (tensor<1x?x8xf32>, tensor<1x?x8xf16>, tensor<1x?x7xf32>, tensor<?x8xf32>)
// CHECK-NEXT:    %0 = aten.dropout(%x, p = 0.1, train = true) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    %1 = aten.to.dtype(%x, dtype = f16) : (tensor<1x?x8xf32>) -> tensor<1x?x8xf16>
// CHECK-NEXT:    %2 = aten.slice.Tensor(%x, dim = 2, end = -1) : (tensor<1x?x8xf32>) -> tensor<1x?x7xf32>
// CHECK-NEXT:    %3 = aten.slice.Tensor(%t, end = s) : (tensor<64x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %0, %1, %2, %3 : tensor<1x?x8xf32>, tensor<1x?x8xf16>, tensor<1x?x7xf32>, tensor<?x8xf32>

// A view of a view is one reshape.
func.func @reshapes(%x: tensor<1x?x8xf32>) -> tensor<1x?x2x4xf32> {
  %0 = aten.view(%x, size = [s, 8]) : (tensor<1x?x8xf32>) -> tensor<?x8xf32>
  %1 = aten.unsqueeze(%0, dim = 0) : (tensor<?x8xf32>) -> tensor<1x?x8xf32>
  %2 = aten.unflatten.int(%1, dim = 2, sizes = [2, 4]) : (tensor<1x?x8xf32>) -> tensor<1x?x2x4xf32>
  func.return %2 : tensor<1x?x2x4xf32>
}
// CHECK-LABEL: func.func @reshapes(%x: tensor<1x?x8xf32>) -> tensor<1x?x2x4xf32>
// CHECK-NEXT:    %0 = aten.reshape(%x, shape = [1, -1, 2, 4]) : (tensor<1x?x8xf32>) -> tensor<1x?x2x4xf32>
// CHECK-NEXT:    func.return %0 : tensor<1x?x2x4xf32>

// Every reordering is a permutation, and two are one.
func.func @permutes(%x: tensor<1x?x2x4xf32>) -> tensor<1x2x4x?xf32> {
  %0 = aten.transpose.int(%x, dim0 = 1, dim1 = 2) : (tensor<1x?x2x4xf32>) -> tensor<1x2x?x4xf32>
  %1 = aten.mT(%0) : (tensor<1x2x?x4xf32>) -> tensor<1x2x4x?xf32>
  func.return %1 : tensor<1x2x4x?xf32>
}
// CHECK-LABEL: func.func @permutes(%x: tensor<1x?x2x4xf32>) -> tensor<1x2x4x?xf32>
// CHECK-NEXT:    %0 = aten.permute(%x, dims = [0, 2, 3, 1]) : (tensor<1x?x2x4xf32>) -> tensor<1x2x4x?xf32>
// CHECK-NEXT:    func.return %0 : tensor<1x2x4x?xf32>

// Each part is a slice; one that is read alone loses its dimension by a reshape.
func.func @parts(%x: tensor<1x?x6xf32>) -> (tensor<1x?x2xf32>, tensor<1x?x3xf32>, tensor<1x?xf32>) {
  %0, %1, %2 = aten.chunk(%x, chunks = 3, dim = -1) : (tensor<1x?x6xf32>) -> (tensor<1x?x2xf32>, tensor<1x?x2xf32>, tensor<1x?x2xf32>)
  %3, %4 = aten.split.Tensor(%x, split_size = 3, dim = 2) : (tensor<1x?x6xf32>) -> (tensor<1x?x3xf32>, tensor<1x?x3xf32>)
  %5 = aten.select.int(%x, dim = 2, index = -1) : (tensor<1x?x6xf32>) -> tensor<1x?xf32>
  func.return %1, %3, %5 : tensor<1x?x2xf32>, tensor<1x?x3xf32>, tensor<1x?xf32>
}
// CHECK-LABEL: func.func @parts(%x: tensor<1x?x6xf32>) -> (tensor<1x?x2xf32>, tensor<1x?x3xf32>, tensor<1x?xf32>)
// CHECK-NEXT:    %0 = aten.slice.Tensor(%x, dim = 2, start = 2, end = 4) : (tensor<1x?x6xf32>) -> tensor<1x?x2xf32>
// CHECK-NEXT:    %1 = aten.slice.Tensor(%x, dim = 2, start = 0, end = 3) : (tensor<1x?x6xf32>) -> tensor<1x?x3xf32>
// CHECK-NEXT:    %2 = aten.slice.Tensor(%x, dim = 2, start = 5, end = 6) : (tensor<1x?x6xf32>) -> tensor<1x?x1xf32>
// CHECK-NEXT:    %3 = aten.reshape(%2, shape = [1, -1]) : (tensor<1x?x1xf32>) -> tensor<1x?xf32>
// CHECK-NEXT:    func.return %0, %1, %3 : tensor<1x?x2xf32>, tensor<1x?x3xf32>, tensor<1x?xf32>

// stack is a join along a new dimension.
func.func @stack(%x: tensor<1x?x4xf32>) -> tensor<1x?x4x2xf32> {
  %0 = aten.neg(%x) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  %1 = aten.stack([%x, %0], dim = -1) : (tensor<1x?x4xf32>, tensor<1x?x4xf32>) -> tensor<1x?x4x2xf32>
  func.return %1 : tensor<1x?x4x2xf32>
}
// CHECK-LABEL: func.func @stack(%x: tensor<1x?x4xf32>) -> tensor<1x?x4x2xf32>
// CHECK-NEXT:    %0 = aten.neg(%x) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    %1 = aten.reshape(%x, shape = [1, -1, 4, 1]) : (tensor<1x?x4xf32>) -> tensor<1x?x4x1xf32>
// CHECK-NEXT:    %2 = aten.reshape(%0, shape = [1, -1, 4, 1]) : (tensor<1x?x4xf32>) -> tensor<1x?x4x1xf32>
// CHECK-NEXT:    %3 = aten.cat([%1, %2], dim = 3) : (tensor<1x?x4x1xf32>, tensor<1x?x4x1xf32>) -> tensor<1x?x4x2xf32>
// CHECK-NEXT:    func.return %3 : tensor<1x?x4x2xf32>

// Two names of one function are one; differences with and quotients by a number are sums, products.
func.func @names(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {
  %0 = aten.square(%x) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  %1 = aten.sub.Scalar(%0, other = 0.5) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  %2 = aten.div.Scalar(%1, other = 8.0) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  %3 = aten.clamp_min(%2, min = -1.0) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  func.return %3 : tensor<1x?x4xf32>
}
// CHECK-LABEL: func.func @names(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    %0 = aten.pow.Tensor_Scalar(%x, exponent = 2) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    %1 = aten.add.Scalar(%0, other = -0.5) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    %2 = aten.mul.Scalar(%1, other = 0.125) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    %3 = aten.clamp(%2, min = -1.0) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    func.return %3 : tensor<1x?x4xf32>

// Equal ops are one op, and what nothing reads goes.
func.func @equal(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {
  %0 = aten.exp(%x) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  %1 = aten.exp(%x) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  %2 = aten.log(%x) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  %3 = aten.add.Tensor(%0, %1) : (tensor<1x?x4xf32>, tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  func.return %3 : tensor<1x?x4xf32>
}
// CHECK-LABEL: func.func @equal(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    %0 = aten.exp(%x) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    %1 = aten.add.Tensor(%0, %0) : (tensor<1x?x4xf32>, tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    func.return %1 : tensor<1x?x4xf32>

// A part without elements adds nothing to a join.
func.func @empty(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {
  %0 = aten.slice.Tensor(%x, dim = 2, start = 4) : (tensor<1x?x4xf32>) -> tensor<1x?x0xf32>
  %1 = aten.cat([%x, %0], dim = 2) : (tensor<1x?x4xf32>, tensor<1x?x0xf32>) -> tensor<1x?x4xf32>
  func.return %1 : tensor<1x?x4xf32>
}
// CHECK-LABEL: func.func @empty(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    func.return %x : tensor<1x?x4xf32>

// Neighbours picked by a constant index are a slice; anything else picked stays.
func.func @picked(%x: tensor<1x?x6xf32>) -> (tensor<1x?x2xf32>, tensor<1x?x2xf32>) {
  %0 = aten.arange.start(start = -2, end = 0) : () -> tensor<2xi64>
  %1 = aten.index.Tensor(%x, [none, none, %0]) : (tensor<1x?x6xf32>, tensor<2xi64>) -> tensor<1x?x2xf32>
  %2 = aten.neg(%0) : (tensor<2xi64>) -> tensor<2xi64>
  %3 = aten.index.Tensor(%x, [none, none, %2]) : (tensor<1x?x6xf32>, tensor<2xi64>) -> tensor<1x?x2xf32>
  func.return %1, %3 : tensor<1x?x2xf32>, tensor<1x?x2xf32>
}
// CHECK-LABEL: func.func @picked(%x: tensor<1x?x6xf32>) -> (tensor<1x?x2xf32>, tensor<1x?x2xf32>)
// CHECK-NEXT:    %0 = aten.arange.start(start = -2, end = 0) : () -> tensor<2xi64>
// CHECK-NEXT:    %1 = aten.slice.Tensor(%x, dim = 2, start = 4, end = 6) : (tensor<1x?x6xf32>) -> tensor<1x?x2xf32>
// CHECK-NEXT:    %2 = aten.neg(%0) : (tensor<2xi64>) -> tensor<2xi64>
// CHECK-NEXT:    %3 = aten.index.Tensor(%x, [none, none, %2]) : (tensor<1x?x6xf32>, tensor<2xi64>) -> tensor<1x?x2xf32>
// CHECK-NEXT:    func.return %1, %3 : tensor<1x?x2xf32>, tensor<1x?x2xf32>
