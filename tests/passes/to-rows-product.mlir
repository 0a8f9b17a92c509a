// RUN: not sparsecomp-opt %s -p to-rows 2>&1 | filecheck %s

// Scores that no attention raised.
// CHECK: error: aten.matmul in layers.0.attention: {{.*}}outside attention
func.func @forward(%x: tensor<1x?x4xf32>) -> tensor<1x?x?xf32> {
  %0 = aten.permute(%x, dims = [0, 2, 1]) : (tensor<1x?x4xf32>) -> tensor<1x4x?xf32>
  %1 = aten.matmul(%x, %0) : (tensor<1x?x4xf32>, tensor<1x4x?xf32>) -> tensor<1x?x?xf32> {module = "layers.0.attention"}
  func.return %1 : tensor<1x?x?xf32>
}
