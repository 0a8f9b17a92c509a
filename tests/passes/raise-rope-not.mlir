// RUN: sparsecomp-opt %s -p raise-rope | filecheck %s


// Linear in x with coefficients by position, but every element meets the one after it: no rotary
// embedding has such partners.
aten.derived @rotary.cos : tensor<?x4xf32> {
  %0 = aten.arange(end = s, dtype = f32) : () -> tensor<?xf32>
  %1 = aten.reshape(%0, shape = [s, 1]) : (tensor<?xf32>) -> tensor<?x1xf32>
  %2 = aten.arange(end = 4, dtype = f32) : () -> tensor<4xf32>
  %3 = aten.add.Scalar(%2, other = 1.0) : (tensor<4xf32>) -> tensor<4xf32>
  %4 = aten.div.Tensor(%1, %3) : (tensor<?x1xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  %5 = aten.cos(%4) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  aten.yield %5 : tensor<?x4xf32>
}
aten.derived @rotary.sin : tensor<?x4xf32> {
  %0 = aten.arange(end = s, dtype = f32) : () -> tensor<?xf32>
  %1 = aten.reshape(%0, shape = [s, 1]) : (tensor<?xf32>) -> tensor<?x1xf32>
  %2 = aten.arange(end = 4, dtype = f32) : () -> tensor<4xf32>
  %3 = aten.add.Scalar(%2, other = 1.0) : (tensor<4xf32>) -> tensor<4xf32>
  %4 = aten.div.Tensor(%1, %3) : (tensor<?x1xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  %5 = aten.sin(%4) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  aten.yield %5 : tensor<?x4xf32>
}
aten.weight @table : tensor<16x2x8xf32>

func.func @forward(%ids: tensor<?xi64>, %positions: tensor<?xi64>) -> tensor<?x2x8xf32> {
  %x = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x2x8xf32>
  %0 = spz.embed %positions, @rotary.cos : tensor<?xi64> -> tensor<?x4xf32>
  %1 = spz.embed %positions, @rotary.sin : tensor<?xi64> -> tensor<?x4xf32>
  %2 = aten.cat([%0, %0], dim = 1) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
  %c = aten.reshape(%2, shape = [s, 1, 8]) : (tensor<?x8xf32>) -> tensor<?x1x8xf32>
  %3 = aten.mul.Tensor(%x, %c) : (tensor<?x2x8xf32>, tensor<?x1x8xf32>) -> tensor<?x2x8xf32>
  %4 = aten.slice.Tensor(%x, dim = 2, start = 0, end = 1) : (tensor<?x2x8xf32>) -> tensor<?x2x1xf32>
  %5 = aten.slice.Tensor(%x, dim = 2, start = 1) : (tensor<?x2x8xf32>) -> tensor<?x2x7xf32>
  %6 = aten.cat([%5, %4], dim = 2) : (tensor<?x2x7xf32>, tensor<?x2x1xf32>) -> tensor<?x2x8xf32>
  %7 = aten.mul.Tensor(%6, %c) : (tensor<?x2x8xf32>, tensor<?x1x8xf32>) -> tensor<?x2x8xf32>
  %8 = aten.add.Tensor(%3, %7) : (tensor<?x2x8xf32>, tensor<?x2x8xf32>) -> tensor<?x2x8xf32>
  func.return %8 : tensor<?x2x8xf32>
}
// CHECK-LABEL: func.func @forward(%ids: tensor<?xi64>, %positions: tensor<?xi64>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %x = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x2x8xf32>
// CHECK-NEXT:    %0 = spz.embed %positions, @rotary.cos : tensor<?xi64> -> tensor<?x4xf32>
// CHECK-NEXT:    %1 = aten.cat([%0, %0], dim = 1) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %c = aten.reshape(%1, shape = [s, 1, 8]) : (tensor<?x8xf32>) -> tensor<?x1x8xf32>
// CHECK-NEXT:    %2 = aten.mul.Tensor(%x, %c) : (tensor<?x2x8xf32>, tensor<?x1x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %3 = aten.slice.Tensor(%x, dim = 2, start = 0, end = 1) : (tensor<?x2x8xf32>) -> tensor<?x2x1xf32>
// CHECK-NEXT:    %4 = aten.slice.Tensor(%x, dim = 2, start = 1) : (tensor<?x2x8xf32>) -> tensor<?x2x7xf32>
// CHECK-NEXT:    %5 = aten.cat([%4, %3], dim = 2) : (tensor<?x2x7xf32>, tensor<?x2x1xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %6 = aten.mul.Tensor(%5, %c) : (tensor<?x2x8xf32>, tensor<?x1x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %7 = aten.add.Tensor(%2, %6) : (tensor<?x2x8xf32>, tensor<?x2x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    func.return %7 : tensor<?x2x8xf32>
