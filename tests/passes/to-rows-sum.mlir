// RUN: not sparsecomp-opt %s -p to-rows 2>&1 | filecheck %s

// CHECK: error: aten.mean.dim in pooler: reads other positions than its own, outside attention
func.func @forward(%x: tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {
  %0 = aten.mean.dim(%x, dim = [1], keepdim = true) : (tensor<1x?x4xf32>) -> tensor<1x1x4xf32> {module = "pooler"}
  %1 = aten.sub.Tensor(%x, %0) : (tensor<1x?x4xf32>, tensor<1x1x4xf32>) -> tensor<1x?x4xf32> {module = "pooler"}
  func.return %1 : tensor<1x?x4xf32>
}
