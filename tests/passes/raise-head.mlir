// RUN: sparsecomp-opt %s -p raise-head | filecheck %s

// The last linear before the result, a soft cap aside, scores the vocabulary; others do not.
func.func @forward(%ids: tensor<?xi64>, %positions: tensor<?xi64>) -> tensor<?x16xf32> {
  %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x4xf32>
  %1 = spz.linear %0, @proj.weight {module = "proj"} : tensor<?x4xf32> -> tensor<?x4xf32>
  %2 = spz.linear %1, @table {module = "lm_head"} : tensor<?x4xf32> -> tensor<?x16xf32>
  %3 = aten.mul.Scalar(%2, other = 0.125) : (tensor<?x16xf32>) -> tensor<?x16xf32>
  %4 = aten.tanh(%3) : (tensor<?x16xf32>) -> tensor<?x16xf32>
  func.return %4 : tensor<?x16xf32>
}
// CHECK-LABEL: func.func @forward(%ids: tensor<?xi64>, %positions: tensor<?xi64>) -> tensor<?x16xf32>
// CHECK-NEXT:    %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x4xf32>
// CHECK-NEXT:    %1 = spz.linear %0, @proj.weight {module = "proj"} : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    %2 = spz.lm_head %1, @table {module = "lm_head"} : tensor<?x4xf32> -> tensor<?x16xf32>
// CHECK-NEXT:    %3 = aten.mul.Scalar(%2, other = 0.125) : (tensor<?x16xf32>) -> tensor<?x16xf32>
// CHECK-NEXT:    %4 = aten.tanh(%3) : (tensor<?x16xf32>) -> tensor<?x16xf32>
// CHECK-NEXT:    func.return %4 : tensor<?x16xf32>
aten.weight @table : tensor<16x4xf32>
aten.weight @proj.weight : tensor<4x4xf32>
