// RUN: sparsecomp-opt %s -p fold-positions | filecheck %s

// CHECK:       aten.derived @rotary.cos : tensor<?x4xf32>
// CHECK-NEXT:    %0 = aten.arange(end = s) : () -> tensor<?xi64>
// CHECK-NEXT:    %1 = aten.to.dtype(%0, dtype = f32) : (tensor<?xi64>) -> tensor<?xf32>
// CHECK-NEXT:    %2 = aten.mul.Scalar(%1, other = 0.5) : (tensor<?xf32>) -> tensor<?xf32>
// CHECK-NEXT:    %3 = aten.reshape(%2, shape = [1, s, 1]) : (tensor<?xf32>) -> tensor<1x?x1xf32>
// CHECK-NEXT:    %4 = aten.expand(%3, size = [1, s, 4]) : (tensor<1x?x1xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    %5 = aten.cos(%4) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {module = "rotary"}
// CHECK-NEXT:    %6 = aten.permute(%5, dims = [1, 0, 2]) : (tensor<1x?x4xf32>) -> tensor<?x1x4xf32>
// CHECK-NEXT:    %7 = aten.reshape(%6, shape = [s, 4]) : (tensor<?x1x4xf32>) -> tensor<?x4xf32>
// CHECK:       aten.derived @wpe.embedding : tensor<?x8xf32>
// CHECK-NEXT:    %0 = aten.ones(size = [64, 8], dtype = f32) : () -> tensor<64x8xf32>
// CHECK-NEXT:    %1 = aten.arange(end = s) : () -> tensor<?xi64>
// CHECK-NEXT:    %2 = aten.embedding(%0, %1) : (tensor<64x8xf32>, tensor<?xi64>) -> tensor<?x8xf32> {module = "wpe"}
// CHECK-NEXT:    %3 = aten.permute(%2, dims = [0, 1]) : (tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %4 = aten.reshape(%3, shape = [s, 8]) : (tensor<?x8xf32>) -> tensor<?x8xf32>

// Angles by position become a table with a row per position, whatever formula made them.
func.func @forward(%x: tensor<1x2x?x4xf32>) -> tensor<1x2x?x4xf32> {
  %0 = aten.arange(end = s) : () -> tensor<?xi64>
  %1 = aten.to.dtype(%0, dtype = f32) : (tensor<?xi64>) -> tensor<?xf32>
  %2 = aten.mul.Scalar(%1, other = 0.5) : (tensor<?xf32>) -> tensor<?xf32>
  %3 = aten.reshape(%2, shape = [1, s, 1]) : (tensor<?xf32>) -> tensor<1x?x1xf32>
  %4 = aten.expand(%3, size = [1, s, 4]) : (tensor<1x?x1xf32>) -> tensor<1x?x4xf32>
  %5 = aten.cos(%4) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {module = "rotary"}
  %6 = aten.reshape(%5, shape = [1, 1, s, 4]) : (tensor<1x?x4xf32>) -> tensor<1x1x?x4xf32> {module = "rotary"}
  %7 = aten.mul.Tensor(%x, %6) : (tensor<1x2x?x4xf32>, tensor<1x1x?x4xf32>) -> tensor<1x2x?x4xf32>
  func.return %7 : tensor<1x2x?x4xf32>
}
// CHECK-LABEL: func.func @forward(%x: tensor<1x2x?x4xf32>, %positions: tensor<?xi64>) -> tensor<1x2x?x4xf32>
// CHECK-NEXT:    %0 = spz.embed %positions, @rotary.cos : tensor<?xi64> -> tensor<?x4xf32>
// CHECK-NEXT:    %1 = aten.reshape(%0, shape = [s, 1, 4]) : (tensor<?x4xf32>) -> tensor<?x1x4xf32> {module = "rotary"}
// CHECK-NEXT:    %2 = aten.permute(%1, dims = [1, 0, 2]) : (tensor<?x1x4xf32>) -> tensor<1x?x4xf32> {module = "rotary"}
// CHECK-NEXT:    %3 = aten.reshape(%2, shape = [1, 1, s, 4]) : (tensor<1x?x4xf32>) -> tensor<1x1x?x4xf32> {module = "rotary"}
// CHECK-NEXT:    %4 = aten.mul.Tensor(%x, %3) : (tensor<1x2x?x4xf32>, tensor<1x1x?x4xf32>) -> tensor<1x2x?x4xf32>
// CHECK-NEXT:    func.return %4 : tensor<1x2x?x4xf32>

// Learned positions: the rows of a weight, in order.
func.func @learned(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32> {
  %0 = aten.ones(size = [64, 8], dtype = f32) : () -> tensor<64x8xf32>
  %1 = aten.arange(end = s) : () -> tensor<?xi64>
  %2 = aten.embedding(%0, %1) : (tensor<64x8xf32>, tensor<?xi64>) -> tensor<?x8xf32> {module = "wpe"}
  %3 = aten.add.Tensor(%x, %2) : (tensor<1x?x8xf32>, tensor<?x8xf32>) -> tensor<1x?x8xf32>
  func.return %3 : tensor<1x?x8xf32>
}
// CHECK-LABEL: func.func @learned(%x: tensor<1x?x8xf32>, %positions: tensor<?xi64>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    %0 = spz.embed %positions, @wpe.embedding : tensor<?xi64> -> tensor<?x8xf32>
// CHECK-NEXT:    %1 = aten.reshape(%0, shape = [s, 8]) : (tensor<?x8xf32>) -> tensor<?x8xf32> {module = "wpe"}
// CHECK-NEXT:    %2 = aten.permute(%1, dims = [0, 1]) : (tensor<?x8xf32>) -> tensor<?x8xf32> {module = "wpe"}
// CHECK-NEXT:    %3 = aten.add.Tensor(%x, %2) : (tensor<1x?x8xf32>, tensor<?x8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    func.return %3 : tensor<1x?x8xf32>
