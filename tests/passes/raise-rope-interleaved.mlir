// RUN: sparsecomp-opt %s -p raise-rope | filecheck %s

// CHECK:       aten.derived @rotary.cos.signed : tensor<?x8xf32>
// CHECK-NEXT:    %0 = aten.get @rotary.cos : tensor<?x4xf32>
// CHECK-NEXT:    %1 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 1) : (tensor<?x4xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %2 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 2) : (tensor<?x4xf32>) -> tensor<?x2xf32>
// CHECK-NEXT:    %3 = aten.slice.Tensor(%0, dim = 1, start = 1, end = 3) : (tensor<?x4xf32>) -> tensor<?x2xf32>
// CHECK-NEXT:    %4 = aten.slice.Tensor(%0, dim = 1, start = 2, end = 4) : (tensor<?x4xf32>) -> tensor<?x2xf32>
// CHECK-NEXT:    %5 = aten.slice.Tensor(%0, dim = 1, start = 3, end = 4) : (tensor<?x4xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %6 = aten.cat([%1, %2, %3, %4, %5], dim = 1) : (tensor<?x1xf32>, tensor<?x2xf32>, tensor<?x2xf32>, tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
// CHECK:       aten.derived @rotary.sin.signed : tensor<?x8xf32>
// CHECK-NEXT:    %0 = aten.get @rotary.sin : tensor<?x4xf32>
// CHECK-NEXT:    %1 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 1) : (tensor<?x4xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %2 = aten.neg(%1) : (tensor<?x1xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %3 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 1) : (tensor<?x4xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %4 = aten.slice.Tensor(%0, dim = 1, start = 1, end = 2) : (tensor<?x4xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %5 = aten.neg(%4) : (tensor<?x1xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %6 = aten.slice.Tensor(%0, dim = 1, start = 1, end = 2) : (tensor<?x4xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %7 = aten.slice.Tensor(%0, dim = 1, start = 2, end = 3) : (tensor<?x4xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %8 = aten.neg(%7) : (tensor<?x1xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %9 = aten.slice.Tensor(%0, dim = 1, start = 2, end = 3) : (tensor<?x4xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %10 = aten.slice.Tensor(%0, dim = 1, start = 3, end = 4) : (tensor<?x4xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %11 = aten.neg(%10) : (tensor<?x1xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %12 = aten.slice.Tensor(%0, dim = 1, start = 3, end = 4) : (tensor<?x4xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %13 = aten.cat([%2, %3, %5, %6, %8, %9, %11, %12], dim = 1) : (tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>


// Neighbours turned with each other.
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
  %c = aten.reshape(%0, shape = [s, 1, 4]) : (tensor<?x4xf32>) -> tensor<?x1x4xf32>
  %n = aten.reshape(%1, shape = [s, 1, 4]) : (tensor<?x4xf32>) -> tensor<?x1x4xf32>
  %2 = aten.reshape(%x, shape = [s, 2, 4, 2]) : (tensor<?x2x8xf32>) -> tensor<?x2x4x2xf32>
  %3 = aten.slice.Tensor(%2, dim = 3, start = 0, end = 1) : (tensor<?x2x4x2xf32>) -> tensor<?x2x4x1xf32>
  %a = aten.reshape(%3, shape = [s, 2, 4]) : (tensor<?x2x4x1xf32>) -> tensor<?x2x4xf32>
  %4 = aten.slice.Tensor(%2, dim = 3, start = 1, end = 2) : (tensor<?x2x4x2xf32>) -> tensor<?x2x4x1xf32>
  %b = aten.reshape(%4, shape = [s, 2, 4]) : (tensor<?x2x4x1xf32>) -> tensor<?x2x4xf32>
  %5 = aten.mul.Tensor(%a, %c) : (tensor<?x2x4xf32>, tensor<?x1x4xf32>) -> tensor<?x2x4xf32>
  %6 = aten.mul.Tensor(%b, %n) : (tensor<?x2x4xf32>, tensor<?x1x4xf32>) -> tensor<?x2x4xf32>
  %7 = aten.sub.Tensor(%5, %6) : (tensor<?x2x4xf32>, tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
  %8 = aten.mul.Tensor(%b, %c) : (tensor<?x2x4xf32>, tensor<?x1x4xf32>) -> tensor<?x2x4xf32>
  %9 = aten.mul.Tensor(%a, %n) : (tensor<?x2x4xf32>, tensor<?x1x4xf32>) -> tensor<?x2x4xf32>
  %10 = aten.add.Tensor(%8, %9) : (tensor<?x2x4xf32>, tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
  %11 = aten.reshape(%7, shape = [s, 2, 4, 1]) : (tensor<?x2x4xf32>) -> tensor<?x2x4x1xf32>
  %12 = aten.reshape(%10, shape = [s, 2, 4, 1]) : (tensor<?x2x4xf32>) -> tensor<?x2x4x1xf32>
  %13 = aten.cat([%11, %12], dim = 3) : (tensor<?x2x4x1xf32>, tensor<?x2x4x1xf32>) -> tensor<?x2x4x2xf32>
  %14 = aten.reshape(%13, shape = [s, 2, 8]) : (tensor<?x2x4x2xf32>) -> tensor<?x2x8xf32>
  func.return %14 : tensor<?x2x8xf32>
}
// CHECK-LABEL: func.func @forward(%ids: tensor<?xi64>, %positions: tensor<?xi64>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %x = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x2x8xf32>
// CHECK-NEXT:    %0 = spz.rope %x, %positions, @rotary.cos.signed, @rotary.sin.signed {rotary = 8 : i64, pairing = #spz<pairing interleaved>} : tensor<?x2x8xf32>, tensor<?xi64> -> tensor<?x2x8xf32>
// CHECK-NEXT:    func.return %0 : tensor<?x2x8xf32>
