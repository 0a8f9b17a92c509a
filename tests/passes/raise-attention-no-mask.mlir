// RUN: not sparsecomp-opt %s -p raise-attention 2>&1 | filecheck %s

// CHECK: error: aten.softmax.int in layers.0.attn: has no causal mask: a token would see later tokens
func.func @forward(%x: tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {
  %kt = aten.permute(%x, dims = [0, 1, 3, 2]) : (tensor<1x2x?x8xf32>) -> tensor<1x2x8x?xf32>
  %0 = aten.matmul(%x, %kt) : (tensor<1x2x?x8xf32>, tensor<1x2x8x?xf32>) -> tensor<1x2x?x?xf32>
  %1 = aten.softmax.int(%0, dim = -1) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32> {module = "layers.0.attn"}
  %2 = aten.matmul(%1, %x) : (tensor<1x2x?x?xf32>, tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32>
  func.return %2 : tensor<1x2x?x8xf32>
}
