// RUN: sparsecomp-opt %s -p raise-attention | filecheck %s

// softmax(scale * q k^T + mask) v, keys and values repeated for 4 heads: they are read from before
// the repetition. The mask is an addition of the smallest number above the diagonal.
func.func @grouped(%x: tensor<1x?x4x8xf32>) -> tensor<1x4x?x8xf32> {
  %q = aten.permute(%x, dims = [0, 2, 1, 3]) : (tensor<1x?x4x8xf32>) -> tensor<1x4x?x8xf32>
  %kv = aten.slice.Tensor(%x, dim = 2, start = 0, end = 2) : (tensor<1x?x4x8xf32>) -> tensor<1x?x2x8xf32>
  %kv2 = aten.permute(%kv, dims = [0, 2, 1, 3]) : (tensor<1x?x2x8xf32>) -> tensor<1x2x?x8xf32>
  %0 = aten.reshape(%kv2, shape = [1, 2, 1, s, 8]) : (tensor<1x2x?x8xf32>) -> tensor<1x2x1x?x8xf32>
  %1 = aten.expand(%0, size = [1, 2, 2, s, 8]) : (tensor<1x2x1x?x8xf32>) -> tensor<1x2x2x?x8xf32>
  %2 = aten.reshape(%1, shape = [1, 4, s, 8]) : (tensor<1x2x2x?x8xf32>) -> tensor<1x4x?x8xf32>
  %3 = aten.permute(%2, dims = [0, 1, 3, 2]) : (tensor<1x4x?x8xf32>) -> tensor<1x4x8x?xf32>
  %4 = aten.matmul(%q, %3) : (tensor<1x4x?x8xf32>, tensor<1x4x8x?xf32>) -> tensor<1x4x?x?xf32>
  %5 = aten.mul.Scalar(%4, other = 0.25) : (tensor<1x4x?x?xf32>) -> tensor<1x4x?x?xf32>
  %6 = aten.full(size = [s, s], fill_value = -3.4028234663852886e+38, dtype = f32) : () -> tensor<?x?xf32>
  %7 = aten.triu(%6, diagonal = 1) : (tensor<?x?xf32>) -> tensor<?x?xf32>
  %8 = aten.add.Tensor(%5, %7) : (tensor<1x4x?x?xf32>, tensor<?x?xf32>) -> tensor<1x4x?x?xf32>
  %9 = aten.softmax.int(%8, dim = -1) : (tensor<1x4x?x?xf32>) -> tensor<1x4x?x?xf32> {module = "layers.0.attn"}
  %10 = aten.matmul(%9, %2) : (tensor<1x4x?x?xf32>, tensor<1x4x?x8xf32>) -> tensor<1x4x?x8xf32> {module = "layers.0.attn"}
  func.return %10 : tensor<1x4x?x8xf32>
}
// CHECK-LABEL: func.func @grouped(%x: tensor<1x?x4x8xf32>) -> tensor<1x4x?x8xf32>
// CHECK-NEXT:    %q = aten.permute(%x, dims = [0, 2, 1, 3]) : (tensor<1x?x4x8xf32>) -> tensor<1x4x?x8xf32>
// CHECK-NEXT:    %kv = aten.slice.Tensor(%x, dim = 2, start = 0, end = 2) : (tensor<1x?x4x8xf32>) -> tensor<1x?x2x8xf32>
// CHECK-NEXT:    %0 = aten.reshape(%q, shape = [4, s, 8]) : (tensor<1x4x?x8xf32>) -> tensor<4x?x8xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0, 2]) : (tensor<4x?x8xf32>) -> tensor<?x4x8xf32>
// CHECK-NEXT:    %2 = aten.permute(%kv, dims = [1, 0, 2, 3]) : (tensor<1x?x2x8xf32>) -> tensor<?x1x2x8xf32>
// CHECK-NEXT:    %3 = aten.reshape(%2, shape = [s, 2, 8]) : (tensor<?x1x2x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %4 = aten.permute(%kv, dims = [1, 0, 2, 3]) : (tensor<1x?x2x8xf32>) -> tensor<?x1x2x8xf32>
// CHECK-NEXT:    %5 = aten.reshape(%4, shape = [s, 2, 8]) : (tensor<?x1x2x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %6 = spz.attention %1, %3, %5 {module = "layers.0.attn", scale = 2.500000e-01 : f64} : tensor<?x4x8xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf32> -> tensor<?x4x8xf32>
// CHECK-NEXT:    %7 = aten.permute(%6, dims = [1, 0, 2]) : (tensor<?x4x8xf32>) -> tensor<4x?x8xf32> {module = "layers.0.attn"}
// CHECK-NEXT:    %8 = aten.reshape(%7, shape = [1, 4, s, 8]) : (tensor<4x?x8xf32>) -> tensor<1x4x?x8xf32> {module = "layers.0.attn"}
// CHECK-NEXT:    func.return %8 : tensor<1x4x?x8xf32>

// A window of 3, where the mask selects; capped scores; scaled queries stay as they are.
func.func @window(%x: tensor<1x4x?x8xf32>) -> tensor<1x4x?x8xf32> {
  %kt = aten.permute(%x, dims = [0, 1, 3, 2]) : (tensor<1x4x?x8xf32>) -> tensor<1x4x8x?xf32>
  %0 = aten.matmul(%x, %kt) : (tensor<1x4x?x8xf32>, tensor<1x4x8x?xf32>) -> tensor<1x4x?x?xf32>
  %1 = aten.mul.Scalar(%0, other = 0.02) : (tensor<1x4x?x?xf32>) -> tensor<1x4x?x?xf32>
  %2 = aten.tanh(%1) : (tensor<1x4x?x?xf32>) -> tensor<1x4x?x?xf32>
  %3 = aten.mul.Scalar(%2, other = 50.0) : (tensor<1x4x?x?xf32>) -> tensor<1x4x?x?xf32>
  %i = aten.arange(end = s) : () -> tensor<?xi64>
  %p = aten.reshape(%i, shape = [s, 1]) : (tensor<?xi64>) -> tensor<?x1xi64>
  %d = aten.sub.Tensor(%p, %i) : (tensor<?x1xi64>, tensor<?xi64>) -> tensor<?x?xi64>
  %a = aten.ge.Scalar(%d, other = 0) : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %b = aten.lt.Scalar(%d, other = 3) : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m = aten.__and__.Tensor(%a, %b) : (tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x?xi1>
  %4 = aten.where.ScalarOther(%m, %3, other = -1.0e+30) : (tensor<?x?xi1>, tensor<1x4x?x?xf32>) -> tensor<1x4x?x?xf32>
  %5 = aten.softmax.int(%4, dim = -1) : (tensor<1x4x?x?xf32>) -> tensor<1x4x?x?xf32> {module = "layers.0.attn"}
  %6 = aten.matmul(%5, %x) : (tensor<1x4x?x?xf32>, tensor<1x4x?x8xf32>) -> tensor<1x4x?x8xf32> {module = "layers.0.attn"}
  func.return %6 : tensor<1x4x?x8xf32>
}
// CHECK-LABEL: func.func @window(%x: tensor<1x4x?x8xf32>) -> tensor<1x4x?x8xf32>
// CHECK-NEXT:    %0 = aten.reshape(%x, shape = [4, s, 8]) : (tensor<1x4x?x8xf32>) -> tensor<4x?x8xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0, 2]) : (tensor<4x?x8xf32>) -> tensor<?x4x8xf32>
// CHECK-NEXT:    %2 = aten.permute(%x, dims = [2, 0, 1, 3]) : (tensor<1x4x?x8xf32>) -> tensor<?x1x4x8xf32>
// CHECK-NEXT:    %3 = aten.reshape(%2, shape = [s, 4, 8]) : (tensor<?x1x4x8xf32>) -> tensor<?x4x8xf32>
// CHECK-NEXT:    %4 = aten.permute(%x, dims = [2, 0, 1, 3]) : (tensor<1x4x?x8xf32>) -> tensor<?x1x4x8xf32>
// CHECK-NEXT:    %5 = aten.reshape(%4, shape = [s, 4, 8]) : (tensor<?x1x4x8xf32>) -> tensor<?x4x8xf32>
// CHECK-NEXT:    %6 = spz.attention %1, %3, %5 {module = "layers.0.attn", scale = 1.000000e+00 : f64, window = 3 : i64, softcap = 5.000000e+01 : f64} : tensor<?x4x8xf32>, tensor<?x4x8xf32>, tensor<?x4x8xf32> -> tensor<?x4x8xf32>
// CHECK-NEXT:    %7 = aten.permute(%6, dims = [1, 0, 2]) : (tensor<?x4x8xf32>) -> tensor<4x?x8xf32> {module = "layers.0.attn"}
// CHECK-NEXT:    %8 = aten.reshape(%7, shape = [1, 4, s, 8]) : (tensor<4x?x8xf32>) -> tensor<1x4x?x8xf32> {module = "layers.0.attn"}
// CHECK-NEXT:    func.return %8 : tensor<1x4x?x8xf32>

// torch's own attention; without a scale it is 1 / sqrt(head size).
func.func @sdpa(%x: tensor<1x4x?x16xf32>) -> tensor<1x4x?x16xf32> {
  %0 = aten.scaled_dot_product_attention(%x, %x, %x, is_causal = true) : (tensor<1x4x?x16xf32>, tensor<1x4x?x16xf32>, tensor<1x4x?x16xf32>) -> tensor<1x4x?x16xf32> {module = "layers.0.attn"}
  func.return %0 : tensor<1x4x?x16xf32>
}
// CHECK-LABEL: func.func @sdpa(%x: tensor<1x4x?x16xf32>) -> tensor<1x4x?x16xf32>
// CHECK-NEXT:    %0 = aten.reshape(%x, shape = [4, s, 16]) : (tensor<1x4x?x16xf32>) -> tensor<4x?x16xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0, 2]) : (tensor<4x?x16xf32>) -> tensor<?x4x16xf32>
// CHECK-NEXT:    %2 = aten.permute(%x, dims = [2, 0, 1, 3]) : (tensor<1x4x?x16xf32>) -> tensor<?x1x4x16xf32>
// CHECK-NEXT:    %3 = aten.reshape(%2, shape = [s, 4, 16]) : (tensor<?x1x4x16xf32>) -> tensor<?x4x16xf32>
// CHECK-NEXT:    %4 = aten.permute(%x, dims = [2, 0, 1, 3]) : (tensor<1x4x?x16xf32>) -> tensor<?x1x4x16xf32>
// CHECK-NEXT:    %5 = aten.reshape(%4, shape = [s, 4, 16]) : (tensor<?x1x4x16xf32>) -> tensor<?x4x16xf32>
// CHECK-NEXT:    %6 = spz.attention %1, %3, %5 {module = "layers.0.attn", scale = 2.500000e-01 : f64} : tensor<?x4x16xf32>, tensor<?x4x16xf32>, tensor<?x4x16xf32> -> tensor<?x4x16xf32>
// CHECK-NEXT:    %7 = aten.permute(%6, dims = [1, 0, 2]) : (tensor<?x4x16xf32>) -> tensor<4x?x16xf32> {module = "layers.0.attn"}
// CHECK-NEXT:    %8 = aten.reshape(%7, shape = [1, 4, s, 16]) : (tensor<4x?x16xf32>) -> tensor<1x4x?x16xf32> {module = "layers.0.attn"}
// CHECK-NEXT:    func.return %8 : tensor<1x4x?x16xf32>

// A softmax over something else is none of this pass's business.
func.func @router(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {
  %0 = aten.softmax.int(%x, dim = -1) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  func.return %0 : tensor<1x?x4xf32>
}
// CHECK-LABEL: func.func @router(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    %0 = aten.softmax.int(%x, dim = -1) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
// CHECK-NEXT:    func.return %0 : tensor<1x?x4xf32>
