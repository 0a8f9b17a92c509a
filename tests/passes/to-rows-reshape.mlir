// RUN: not sparsecomp-opt %s -p to-rows 2>&1 | filecheck %s

// Elements that move from one token to another.
// CHECK: error: aten.reshape in model: mixes positions with other dimensions
func.func @forward(%x: tensor<1x4x?xf32>) -> tensor<1x?x4xf32> {
  %0 = aten.reshape(%x, shape = [1, s, 4]) : (tensor<1x4x?xf32>) -> tensor<1x?x4xf32> {module = "model"}
  func.return %0 : tensor<1x?x4xf32>
}
