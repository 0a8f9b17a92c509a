// RUN: sparsecomp-opt %s -p split-linear | filecheck %s

// CHECK:       aten.derived @qkv.weight.q2 : tensor<8x4xf32>
// CHECK-NEXT:    %0 = aten.get @qkv.weight : tensor<16x4xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0]) : (tensor<16x4xf32>) -> tensor<4x16xf32>
// CHECK-NEXT:    %q = aten.slice.Tensor(%1, dim = 1, start = 0, end = 8) : (tensor<4x16xf32>) -> tensor<4x8xf32>
// CHECK-NEXT:    %q2 = aten.reshape(%q, shape = [4, 2, 4]) : (tensor<4x8xf32>) -> tensor<4x2x4xf32>
// CHECK-NEXT:    %2 = aten.reshape(%q2, shape = [4, 8]) : (tensor<4x2x4xf32>) -> tensor<4x8xf32>
// CHECK-NEXT:    %3 = aten.permute(%2, dims = [1, 0]) : (tensor<4x8xf32>) -> tensor<8x4xf32>
// CHECK:       aten.derived @qkv.bias.q2 : tensor<8xf32>
// CHECK-NEXT:    %0 = aten.get @qkv.bias : tensor<16xf32>
// CHECK-NEXT:    %1 = aten.reshape(%0, shape = [1, 16]) : (tensor<16xf32>) -> tensor<1x16xf32>
// CHECK-NEXT:    %q = aten.slice.Tensor(%1, dim = 1, start = 0, end = 8) : (tensor<1x16xf32>) -> tensor<1x8xf32>
// CHECK-NEXT:    %q2 = aten.reshape(%q, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %2 = aten.reshape(%q2, shape = [8]) : (tensor<1x2x4xf32>) -> tensor<8xf32>
// CHECK:       aten.derived @qkv.weight.k2 : tensor<4x4xf32>
// CHECK-NEXT:    %0 = aten.get @qkv.weight : tensor<16x4xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0]) : (tensor<16x4xf32>) -> tensor<4x16xf32>
// CHECK-NEXT:    %k = aten.slice.Tensor(%1, dim = 1, start = 8, end = 12) : (tensor<4x16xf32>) -> tensor<4x4xf32>
// CHECK-NEXT:    %k2 = aten.reshape(%k, shape = [4, 1, 4]) : (tensor<4x4xf32>) -> tensor<4x1x4xf32>
// CHECK-NEXT:    %2 = aten.reshape(%k2, shape = [4, 4]) : (tensor<4x1x4xf32>) -> tensor<4x4xf32>
// CHECK-NEXT:    %3 = aten.permute(%2, dims = [1, 0]) : (tensor<4x4xf32>) -> tensor<4x4xf32>
// CHECK:       aten.derived @qkv.bias.k2 : tensor<4xf32>
// CHECK-NEXT:    %0 = aten.get @qkv.bias : tensor<16xf32>
// CHECK-NEXT:    %1 = aten.reshape(%0, shape = [1, 16]) : (tensor<16xf32>) -> tensor<1x16xf32>
// CHECK-NEXT:    %k = aten.slice.Tensor(%1, dim = 1, start = 8, end = 12) : (tensor<1x16xf32>) -> tensor<1x4xf32>
// CHECK-NEXT:    %k2 = aten.reshape(%k, shape = [1, 1, 4]) : (tensor<1x4xf32>) -> tensor<1x1x4xf32>
// CHECK-NEXT:    %2 = aten.reshape(%k2, shape = [4]) : (tensor<1x1x4xf32>) -> tensor<4xf32>
// CHECK:       aten.derived @qkv.weight.v : tensor<4x4xf32>
// CHECK-NEXT:    %0 = aten.get @qkv.weight : tensor<16x4xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0]) : (tensor<16x4xf32>) -> tensor<4x16xf32>
// CHECK-NEXT:    %v = aten.slice.Tensor(%1, dim = 1, start = 12, end = 16) : (tensor<4x16xf32>) -> tensor<4x4xf32>
// CHECK-NEXT:    %2 = aten.reshape(%v, shape = [4, 4]) : (tensor<4x4xf32>) -> tensor<4x4xf32>
// CHECK-NEXT:    %3 = aten.permute(%2, dims = [1, 0]) : (tensor<4x4xf32>) -> tensor<4x4xf32>
// CHECK:       aten.derived @qkv.bias.v : tensor<4xf32>
// CHECK-NEXT:    %0 = aten.get @qkv.bias : tensor<16xf32>
// CHECK-NEXT:    %1 = aten.reshape(%0, shape = [1, 16]) : (tensor<16xf32>) -> tensor<1x16xf32>
// CHECK-NEXT:    %v = aten.slice.Tensor(%1, dim = 1, start = 12, end = 16) : (tensor<1x16xf32>) -> tensor<1x4xf32>
// CHECK-NEXT:    %2 = aten.reshape(%v, shape = [4]) : (tensor<1x4xf32>) -> tensor<4xf32>
// CHECK:       aten.derived @qkv.weight.q : tensor<8x4xf32>
// CHECK-NEXT:    %0 = aten.get @qkv.weight : tensor<16x4xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0]) : (tensor<16x4xf32>) -> tensor<4x16xf32>
// CHECK-NEXT:    %2 = aten.reshape(%1, shape = [4, 2, 8]) : (tensor<4x16xf32>) -> tensor<4x2x8xf32>
// CHECK-NEXT:    %q = aten.slice.Tensor(%2, dim = 2, start = 0, end = 4) : (tensor<4x2x8xf32>) -> tensor<4x2x4xf32>
// CHECK-NEXT:    %3 = aten.reshape(%q, shape = [4, 8]) : (tensor<4x2x4xf32>) -> tensor<4x8xf32>
// CHECK-NEXT:    %4 = aten.permute(%3, dims = [1, 0]) : (tensor<4x8xf32>) -> tensor<8x4xf32>
// CHECK:       aten.derived @qkv.weight.k : tensor<8x4xf32>
// CHECK-NEXT:    %0 = aten.get @qkv.weight : tensor<16x4xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0]) : (tensor<16x4xf32>) -> tensor<4x16xf32>
// CHECK-NEXT:    %2 = aten.reshape(%1, shape = [4, 2, 8]) : (tensor<4x16xf32>) -> tensor<4x2x8xf32>
// CHECK-NEXT:    %k = aten.slice.Tensor(%2, dim = 2, start = 4, end = 8) : (tensor<4x2x8xf32>) -> tensor<4x2x4xf32>
// CHECK-NEXT:    %3 = aten.reshape(%k, shape = [4, 8]) : (tensor<4x2x4xf32>) -> tensor<4x8xf32>
// CHECK-NEXT:    %4 = aten.permute(%3, dims = [1, 0]) : (tensor<4x8xf32>) -> tensor<8x4xf32>

aten.weight @qkv.weight : tensor<16x4xf32>
aten.weight @qkv.bias : tensor<16xf32>

// A fused projection of queries (8), keys (4) and values (4) becomes three.
func.func @joined(%x: tensor<?x4xf32>) -> (tensor<?x2x4xf32>, tensor<?x1x4xf32>, tensor<?x4xf32>) {
  %0 = spz.linear %x, @qkv.weight, @qkv.bias {module = "qkv"} : tensor<?x4xf32> -> tensor<?x16xf32>
  %q = aten.slice.Tensor(%0, dim = 1, start = 0, end = 8) : (tensor<?x16xf32>) -> tensor<?x8xf32>
  %q2 = aten.reshape(%q, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
  %k = aten.slice.Tensor(%0, dim = 1, start = 8, end = 12) : (tensor<?x16xf32>) -> tensor<?x4xf32>
  %k2 = aten.reshape(%k, shape = [s, 1, 4]) : (tensor<?x4xf32>) -> tensor<?x1x4xf32>
  %v = aten.slice.Tensor(%0, dim = 1, start = 12, end = 16) : (tensor<?x16xf32>) -> tensor<?x4xf32>
  func.return %q2, %k2, %v : tensor<?x2x4xf32>, tensor<?x1x4xf32>, tensor<?x4xf32>
}
// CHECK-LABEL: func.func @joined(%x: tensor<?x4xf32>) -> (tensor<?x2x4xf32>, tensor<?x1x4xf32>, tensor<?x4xf32>)
// CHECK-NEXT:    %0 = spz.linear %x, @qkv.weight.q2, @qkv.bias.q2 {module = "qkv"} : tensor<?x4xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    %q2 = aten.reshape(%0, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
// CHECK-NEXT:    %1 = spz.linear %x, @qkv.weight.k2, @qkv.bias.k2 {module = "qkv"} : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    %k2 = aten.reshape(%1, shape = [s, 1, 4]) : (tensor<?x4xf32>) -> tensor<?x1x4xf32>
// CHECK-NEXT:    %v = spz.linear %x, @qkv.weight.v, @qkv.bias.v {module = "qkv"} : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %q2, %k2, %v : tensor<?x2x4xf32>, tensor<?x1x4xf32>, tensor<?x4xf32>

// Queries and keys interleaved head by head.
func.func @interleaved(%x: tensor<?x4xf32>) -> (tensor<?x2x4xf32>, tensor<?x2x4xf32>) {
  %0 = spz.linear %x, @qkv.weight {module = "qkv"} : tensor<?x4xf32> -> tensor<?x16xf32>
  %1 = aten.reshape(%0, shape = [s, 2, 8]) : (tensor<?x16xf32>) -> tensor<?x2x8xf32>
  %q = aten.slice.Tensor(%1, dim = 2, start = 0, end = 4) : (tensor<?x2x8xf32>) -> tensor<?x2x4xf32>
  %k = aten.slice.Tensor(%1, dim = 2, start = 4, end = 8) : (tensor<?x2x8xf32>) -> tensor<?x2x4xf32>
  func.return %q, %k : tensor<?x2x4xf32>, tensor<?x2x4xf32>
}
// CHECK-LABEL: func.func @interleaved(%x: tensor<?x4xf32>) -> (tensor<?x2x4xf32>, tensor<?x2x4xf32>)
// CHECK-NEXT:    %0 = spz.linear %x, @qkv.weight.q {module = "qkv"} : tensor<?x4xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    %q = aten.reshape(%0, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
// CHECK-NEXT:    %1 = spz.linear %x, @qkv.weight.k {module = "qkv"} : tensor<?x4xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    %k = aten.reshape(%1, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
// CHECK-NEXT:    func.return %q, %k : tensor<?x2x4xf32>, tensor<?x2x4xf32>

// A result that is also read whole is left alone.
func.func @whole(%x: tensor<?x4xf32>) -> (tensor<?x16xf32>, tensor<?x4xf32>) {
  %0 = spz.linear %x, @qkv.weight : tensor<?x4xf32> -> tensor<?x16xf32>
  %1 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 4) : (tensor<?x16xf32>) -> tensor<?x4xf32>
  func.return %0, %1 : tensor<?x16xf32>, tensor<?x4xf32>
}
// CHECK-LABEL: func.func @whole(%x: tensor<?x4xf32>) -> (tensor<?x16xf32>, tensor<?x4xf32>)
// CHECK-NEXT:    %0 = spz.linear %x, @qkv.weight : tensor<?x4xf32> -> tensor<?x16xf32>
// CHECK-NEXT:    %1 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 4) : (tensor<?x16xf32>) -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %0, %1 : tensor<?x16xf32>, tensor<?x4xf32>
