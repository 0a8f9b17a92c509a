// RUN: sparsecomp-opt %s -p raise-head | filecheck %s

// A result that is not scored by a linear stays as it is.
func.func @forward(%ids: tensor<?xi64>, %positions: tensor<?xi64>) -> tensor<?x4xf32> {
  %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x4xf32>
  %1 = spz.linear %0, @proj.weight : tensor<?x4xf32> -> tensor<?x4xf32>
  %2 = spz.rms_norm %1 {eps = 1.000000e-05 : f64} : tensor<?x4xf32> -> tensor<?x4xf32>
  func.return %2 : tensor<?x4xf32>
}
// CHECK-LABEL: func.func @forward(%ids: tensor<?xi64>, %positions: tensor<?xi64>) -> tensor<?x4xf32>
// CHECK-NEXT:    %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x4xf32>
// CHECK-NEXT:    %1 = spz.linear %0, @proj.weight : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    %2 = spz.rms_norm %1 {eps = 1.000000e-05 : f64} : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %2 : tensor<?x4xf32>
aten.weight @table : tensor<16x4xf32>
aten.weight @proj.weight : tensor<4x4xf32>
