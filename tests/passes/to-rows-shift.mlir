// RUN: not sparsecomp-opt %s -p to-rows 2>&1 | filecheck %s

// A token mixed with the one before it.
// CHECK: error: aten.slice.Tensor in layers.0.shift: reads other positions than its own, outside attention
func.func @forward(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {
  %0 = aten.slice.Tensor(%x, dim = 1, start = 1) : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {module = "layers.0.shift"}
  func.return %0 : tensor<1x?x4xf32>
}
