// RUN: not sparsecomp-opt %s -p fold-positions 2>&1 | filecheck %s

// A value that changes with the length of the sequence is no table.
// CHECK: error: aten.flip in positions: depends on how long the sequence is
func.func @forward(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {
  %0 = aten.arange(end = s, dtype = f32) : () -> tensor<?xf32>
  %1 = aten.reshape(%0, shape = [1, s, 1]) : (tensor<?xf32>) -> tensor<1x?x1xf32>
  %2 = aten.flip(%1, dims = [1]) : (tensor<1x?x1xf32>) -> tensor<1x?x1xf32> {module = "positions"}
  %3 = aten.mul.Tensor(%x, %2) : (tensor<1x?x4xf32>, tensor<1x?x1xf32>) -> tensor<1x?x4xf32>
  func.return %3 : tensor<1x?x4xf32>
}
