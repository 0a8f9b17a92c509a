// RUN: sparsecomp-opt %s -p raise-rope | filecheck %s

// CHECK:       aten.derived @rotary.cos.signed : tensor<?x8xf32>
// CHECK-NEXT:    %0 = aten.get @rotary.cos : tensor<?x4xf32>
// CHECK-NEXT:    %1 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 4) : (tensor<?x4xf32>) -> tensor<?x4xf32>
// CHECK-NEXT:    %2 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 4) : (tensor<?x4xf32>) -> tensor<?x4xf32>
// CHECK-NEXT:    %3 = aten.cat([%1, %2], dim = 1) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
// CHECK:       aten.derived @rotary.sin.signed : tensor<?x8xf32>
// CHECK-NEXT:    %0 = aten.get @rotary.sin : tensor<?x4xf32>
// CHECK-NEXT:    %1 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 4) : (tensor<?x4xf32>) -> tensor<?x4xf32>
// CHECK-NEXT:    %2 = aten.neg(%1) : (tensor<?x4xf32>) -> tensor<?x4xf32>
// CHECK-NEXT:    %3 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 4) : (tensor<?x4xf32>) -> tensor<?x4xf32>
// CHECK-NEXT:    %4 = aten.cat([%2, %3], dim = 1) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>


// Halves turned with each other, the tables joined with themselves: the sign goes into the sine.
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
  %3 = aten.cat([%1, %1], dim = 1) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
  %c = aten.reshape(%2, shape = [s, 1, 8]) : (tensor<?x8xf32>) -> tensor<?x1x8xf32>
  %n = aten.reshape(%3, shape = [s, 1, 8]) : (tensor<?x8xf32>) -> tensor<?x1x8xf32>
  %4 = aten.mul.Tensor(%x, %c) : (tensor<?x2x8xf32>, tensor<?x1x8xf32>) -> tensor<?x2x8xf32>
  %5 = aten.slice.Tensor(%x, dim = 2, start = 0, end = 4) : (tensor<?x2x8xf32>) -> tensor<?x2x4xf32>
  %6 = aten.slice.Tensor(%x, dim = 2, start = 4) : (tensor<?x2x8xf32>) -> tensor<?x2x4xf32>
  %7 = aten.neg(%6) : (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
  %8 = aten.cat([%7, %5], dim = 2) : (tensor<?x2x4xf32>, tensor<?x2x4xf32>) -> tensor<?x2x8xf32>
  %9 = aten.mul.Tensor(%8, %n) : (tensor<?x2x8xf32>, tensor<?x1x8xf32>) -> tensor<?x2x8xf32>
  %10 = aten.add.Tensor(%4, %9) : (tensor<?x2x8xf32>, tensor<?x2x8xf32>) -> tensor<?x2x8xf32> {module = "attn"}
  func.return %10 : tensor<?x2x8xf32>
}
// CHECK-LABEL: func.func @forward(%ids: tensor<?xi64>, %positions: tensor<?xi64>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %x = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x2x8xf32>
// CHECK-NEXT:    %0 = spz.rope %x, %positions, @rotary.cos.signed, @rotary.sin.signed {module = "attn", rotary = 8 : i64, pairing = #spz<pairing half>} : tensor<?x2x8xf32>, tensor<?xi64> -> tensor<?x2x8xf32>
// CHECK-NEXT:    func.return %0 : tensor<?x2x8xf32>
