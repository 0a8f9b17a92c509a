// RUN: not sparsecomp-opt %s -p to-rows 2>&1 | filecheck %s

// A convolution along the sequence reads other positions.
// CHECK: error: aten.conv1d in layers.0.conv: is not supported on values that depend on tokens, outside attention
func.func @forward(%x: tensor<1x4x?xf32>) -> tensor<1x4x?xf32> {
  %0 = aten.ones(size = [4, 1, 3], dtype = f32) : () -> tensor<4x1x3xf32>
  %1 = aten.conv1d(%x, %0, padding = [1], groups = 4) : (tensor<1x4x?xf32>, tensor<4x1x3xf32>) -> tensor<1x4x?xf32> {module = "layers.0.conv"}
  func.return %1 : tensor<1x4x?xf32>
}
