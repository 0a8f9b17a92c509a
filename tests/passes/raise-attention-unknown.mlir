// RUN: not sparsecomp-opt %s -p raise-attention 2>&1 | filecheck %s

// Scores that are changed by another value of the tokens.
// CHECK: error: aten.softmax.int in attn: mixes positions in a way that is no attention we know
func.func @forward(%x: tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {
  %kt = aten.permute(%x, dims = [0, 1, 3, 2]) : (tensor<1x2x?x8xf32>) -> tensor<1x2x8x?xf32>
  %0 = aten.matmul(%x, %kt) : (tensor<1x2x?x8xf32>, tensor<1x2x8x?xf32>) -> tensor<1x2x?x?xf32>
  %1 = aten.exp(%0) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32>
  %2 = aten.softmax.int(%1, dim = -1) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32> {module = "attn"}
  %3 = aten.matmul(%2, %x) : (tensor<1x2x?x?xf32>, tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32>
  func.return %3 : tensor<1x2x?x8xf32>
}
