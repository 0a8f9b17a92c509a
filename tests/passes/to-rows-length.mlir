// RUN: not sparsecomp-opt %s -p to-rows 2>&1 | filecheck %s

// Twice as many rows, each half of a token.
// CHECK: error: aten.reshape in model: mixes positions with other dimensions
func.func @forward(%x: tensor<1x?x8xf32>) -> tensor<1x?x4xf32> {
  %0 = aten.reshape(%x, shape = [1, 2 s, 4]) : (tensor<1x?x8xf32>) -> tensor<1x?x4xf32> {module = "model"}
  func.return %0 : tensor<1x?x4xf32>
}
