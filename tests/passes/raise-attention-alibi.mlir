// RUN: sparsecomp-opt %s -p raise-attention | filecheck %s

// CHECK:       aten.derived @attn.alibi_slopes : tensor<2xf32>
// CHECK-NEXT:    %0 = aten.full(size = [1], fill_value = 0.5) : () -> tensor<1xf32>
// CHECK-NEXT:    %1 = aten.full(size = [1], fill_value = 0.25) : () -> tensor<1xf32>
// CHECK-NEXT:    %2 = aten.cat([%0, %1]) : (tensor<1xf32>, tensor<1xf32>) -> tensor<2xf32>

// A bias that grows with the distance by 1/2 in the first head and 1/4 in the second, inside a
// causal mask: slopes per head.
func.func @forward(%x: tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {
  %kt = aten.permute(%x, dims = [0, 1, 3, 2]) : (tensor<1x2x?x8xf32>) -> tensor<1x2x8x?xf32>
  %0 = aten.matmul(%x, %kt) : (tensor<1x2x?x8xf32>, tensor<1x2x8x?xf32>) -> tensor<1x2x?x?xf32>
  %j = aten.arange(end = s, dtype = f32) : () -> tensor<?xf32>
  %a = aten.full(size = [1, 1, 1], fill_value = 0.5) : () -> tensor<1x1x1xf32>
  %b = aten.full(size = [1, 1, 1], fill_value = 0.25) : () -> tensor<1x1x1xf32>
  %slopes = aten.cat([%a, %b], dim = 0) : (tensor<1x1x1xf32>, tensor<1x1x1xf32>) -> tensor<2x1x1xf32>
  %bias = aten.mul.Tensor(%slopes, %j) : (tensor<2x1x1xf32>, tensor<?xf32>) -> tensor<2x1x?xf32>
  %1 = aten.add.Tensor(%0, %bias) : (tensor<1x2x?x?xf32>, tensor<2x1x?xf32>) -> tensor<1x2x?x?xf32>
  %ones = aten.ones(size = [s, s], dtype = i1) : () -> tensor<?x?xi1>
  %later = aten.triu(%ones, diagonal = 1) : (tensor<?x?xi1>) -> tensor<?x?xi1>
  %2 = aten.masked_fill.Scalar(%1, %later, value = -inf) : (tensor<1x2x?x?xf32>, tensor<?x?xi1>) -> tensor<1x2x?x?xf32>
  %3 = aten.softmax.int(%2, dim = -1) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32> {module = "attn"}
  %4 = aten.matmul(%3, %x) : (tensor<1x2x?x?xf32>, tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {module = "attn"}
  func.return %4 : tensor<1x2x?x8xf32>
}
// CHECK-LABEL: func.func @forward(%x: tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32>
// CHECK-NEXT:    %0 = aten.reshape(%x, shape = [2, s, 8]) : (tensor<1x2x?x8xf32>) -> tensor<2x?x8xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0, 2]) : (tensor<2x?x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %2 = aten.permute(%x, dims = [2, 0, 1, 3]) : (tensor<1x2x?x8xf32>) -> tensor<?x1x2x8xf32>
// CHECK-NEXT:    %3 = aten.reshape(%2, shape = [s, 2, 8]) : (tensor<?x1x2x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %4 = aten.permute(%x, dims = [2, 0, 1, 3]) : (tensor<1x2x?x8xf32>) -> tensor<?x1x2x8xf32>
// CHECK-NEXT:    %5 = aten.reshape(%4, shape = [s, 2, 8]) : (tensor<?x1x2x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %6 = spz.attention %1, %3, %5 {module = "attn", scale = 1.000000e+00 : f64, slopes = @attn.alibi_slopes} : tensor<?x2x8xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf32> -> tensor<?x2x8xf32>
// CHECK-NEXT:    %7 = aten.permute(%6, dims = [1, 0, 2]) : (tensor<?x2x8xf32>) -> tensor<2x?x8xf32> {module = "attn"}
// CHECK-NEXT:    %8 = aten.reshape(%7, shape = [1, 2, s, 8]) : (tensor<2x?x8xf32>) -> tensor<1x2x?x8xf32> {module = "attn"}
// CHECK-NEXT:    func.return %8 : tensor<1x2x?x8xf32>
