// RUN: not sparsecomp-opt %s -p raise-attention 2>&1 | filecheck %s

// A mask inside a soft cap forbids nothing: tanh(-inf) is -1.
// CHECK: error: aten.softmax.int in attn: mixes positions in a way that is no attention we know
func.func @forward(%x: tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {
  %kt = aten.permute(%x, dims = [0, 1, 3, 2]) : (tensor<1x2x?x8xf32>) -> tensor<1x2x8x?xf32>
  %0 = aten.matmul(%x, %kt) : (tensor<1x2x?x8xf32>, tensor<1x2x8x?xf32>) -> tensor<1x2x?x?xf32>
  %full = aten.full(size = [s, s], fill_value = -inf) : () -> tensor<?x?xf32>
  %mask = aten.triu(%full, diagonal = 1) : (tensor<?x?xf32>) -> tensor<?x?xf32>
  %1 = aten.add.Tensor(%0, %mask) : (tensor<1x2x?x?xf32>, tensor<?x?xf32>) -> tensor<1x2x?x?xf32>
  %2 = aten.mul.Scalar(%1, other = 0.02) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32>
  %3 = aten.tanh(%2) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32>
  %4 = aten.mul.Scalar(%3, other = 50.0) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32>
  %5 = aten.softmax.int(%4, dim = -1) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32> {module = "attn"}
  %6 = aten.matmul(%5, %x) : (tensor<1x2x?x?xf32>, tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {module = "attn"}
  func.return %6 : tensor<1x2x?x8xf32>
}
