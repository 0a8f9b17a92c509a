// RUN: not sparsecomp-opt %s -p fold-positions 2>&1 | filecheck %s

// A value for each pair of positions has no place outside attention.
// CHECK: error: aten.tril in bias: depends on pairs of positions outside attention
func.func @forward(%x: tensor<1x?x4xf32>) -> tensor<1x?x?xf32> {
  %0 = aten.ones(size = [s, s], dtype = f32) : () -> tensor<?x?xf32>
  %1 = aten.tril(%0) : (tensor<?x?xf32>) -> tensor<?x?xf32> {module = "bias"}
  %2 = aten.sum.dim_IntList(%x, dim = [-1], keepdim = true) : (tensor<1x?x4xf32>) -> tensor<1x?x1xf32>
  %3 = aten.mul.Tensor(%2, %1) : (tensor<1x?x1xf32>, tensor<?x?xf32>) -> tensor<1x?x?xf32>
  func.return %3 : tensor<1x?x?xf32>
}
