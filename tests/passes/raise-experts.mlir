// RUN: sparsecomp-opt %s -p raise-experts | filecheck %s

aten.weight @experts.up : tensor<4x6x8xf32>

// Each token's row twice, a matrix gathered for each choice, their product: one op that reads the
// chosen experts alone.
func.func @forward(%x: tensor<?x8xf32>, %unused: tensor<1xi64>, %chosen: tensor<?x2xi64>) -> tensor<?x2x6xf32> {
  %0 = aten.repeat_interleave.self_int(%x, repeats = 2, dim = 0) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %1 = aten.reshape(%chosen, shape = [-1]) : (tensor<?x2xi64>) -> tensor<?xi64>
  %2 = aten.get @experts.up : tensor<4x6x8xf32>
  %3 = aten.index.Tensor(%2, [%1]) : (tensor<4x6x8xf32>, tensor<?xi64>) -> tensor<?x6x8xf32>
  %4 = aten.reshape(%0, shape = [-1, 8, 1]) : (tensor<?x8xf32>) -> tensor<?x8x1xf32>
  %5 = aten.bmm(%3, %4) : (tensor<?x6x8xf32>, tensor<?x8x1xf32>) -> tensor<?x6x1xf32> {module = "experts"}
  %6 = aten.reshape(%5, shape = [s, 2, 6]) : (tensor<?x6x1xf32>) -> tensor<?x2x6xf32>
  func.return %6 : tensor<?x2x6xf32>
}
// CHECK-LABEL: func.func @forward(%x: tensor<?x8xf32>, %unused: tensor<1xi64>, %chosen: tensor<?x2xi64>) -> tensor<?x2x6xf32>
// CHECK-NEXT:    %0 = aten.reshape(%x, shape = [s, 1, 8]) : (tensor<?x8xf32>) -> tensor<?x1x8xf32>
// CHECK-NEXT:    %1 = aten.expand(%0, size = [s, 2, 8]) : (tensor<?x1x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %2 = aten.reshape(%1, shape = [s, 2, 8, 1]) : (tensor<?x2x8xf32>) -> tensor<?x2x8x1xf32>
// CHECK-NEXT:    %3 = aten.reshape(%2, shape = [s, 2, 8]) : (tensor<?x2x8x1xf32>) -> tensor<?x2x8xf32> {module = "experts"}
// CHECK-NEXT:    %4 = spz.expert_linear %3, %chosen, @experts.up {module = "experts"} : tensor<?x2x8xf32>, tensor<?x2xi64> -> tensor<?x2x6xf32>
// CHECK-NEXT:    %5 = aten.reshape(%4, shape = [s, 2, 6, 1]) : (tensor<?x2x6xf32>) -> tensor<?x2x6x1xf32> {module = "experts"}
// CHECK-NEXT:    %6 = aten.reshape(%5, shape = [s, 2, 6]) : (tensor<?x2x6x1xf32>) -> tensor<?x2x6xf32>
// CHECK-NEXT:    func.return %6 : tensor<?x2x6xf32>
