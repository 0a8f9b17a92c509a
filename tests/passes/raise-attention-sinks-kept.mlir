// RUN: not sparsecomp-opt %s -p raise-attention 2>&1 | filecheck %s

aten.weight @attn.sinks : tensor<2xf32>

// Shares from which the sink's is not cut off are no weights of the values.
// CHECK: error: aten.softmax.int in attn: mixes positions in a way that is no attention we know
func.func @forward(%x: tensor<1x2x?x8xf32>, %y: tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {
  %kt = aten.permute(%x, dims = [0, 1, 3, 2]) : (tensor<1x2x?x8xf32>) -> tensor<1x2x8x?xf32>
  %0 = aten.matmul(%x, %kt) : (tensor<1x2x?x8xf32>, tensor<1x2x8x?xf32>) -> tensor<1x2x?x?xf32>
  %2 = aten.get @attn.sinks : tensor<2xf32>
  %3 = aten.reshape(%2, shape = [1, 2, 1, 1]) : (tensor<2xf32>) -> tensor<1x2x1x1xf32>
  %4 = aten.expand(%3, size = [1, 2, s, 1]) : (tensor<1x2x1x1xf32>) -> tensor<1x2x?x1xf32>
  %5 = aten.cat([%0, %4], dim = -1) : (tensor<1x2x?x?xf32>, tensor<1x2x?x1xf32>) -> tensor<1x2x?x?xf32>
  %6 = aten.softmax.int(%5, dim = -1) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32> {module = "attn"}
  %7 = aten.matmul(%6, %y) : (tensor<1x2x?x?xf32>, tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {module = "attn"}
  func.return %7 : tensor<1x2x?x8xf32>
}
