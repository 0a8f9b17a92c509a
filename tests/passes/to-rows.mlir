// RUN: sparsecomp-opt %s -p to-rows | filecheck %s

aten.weight @w : tensor<8x8xf32>
aten.weight @scale : tensor<1x1x8xf32>

// Tokens come first, the batch goes, and moves between the two orders cancel.
func.func @heads(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32> {
  %0 = aten.get @w : tensor<8x8xf32>
  %1 = aten.linear(%x, %0) : (tensor<1x?x8xf32>, tensor<8x8xf32>) -> tensor<1x?x8xf32>
  %2 = aten.reshape(%1, shape = [1, s, 2, 4]) : (tensor<1x?x8xf32>) -> tensor<1x?x2x4xf32>
  %3 = aten.permute(%2, dims = [0, 2, 1, 3]) : (tensor<1x?x2x4xf32>) -> tensor<1x2x?x4xf32>
  %4 = aten.softmax.int(%3, dim = 1) : (tensor<1x2x?x4xf32>) -> tensor<1x2x?x4xf32>
  %5 = aten.permute(%4, dims = [0, 2, 1, 3]) : (tensor<1x2x?x4xf32>) -> tensor<1x?x2x4xf32>
  %6 = aten.reshape(%5, shape = [1, s, 8]) : (tensor<1x?x2x4xf32>) -> tensor<1x?x8xf32>
  func.return %6 : tensor<1x?x8xf32>
}
// CHECK-LABEL: func.func @heads(%x: tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %0 = aten.get @w : tensor<8x8xf32>
// CHECK-NEXT:    %1 = aten.linear(%x, %0) : (tensor<?x8xf32>, tensor<8x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %2 = aten.reshape(%1, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
// CHECK-NEXT:    %3 = aten.softmax.int(%2, dim = 1) : (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
// CHECK-NEXT:    %4 = aten.reshape(%3, shape = [s, 8]) : (tensor<?x2x4xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %4 : tensor<?x8xf32>

// A weight that stands for every token keeps its own dimensions.
func.func @broadcast(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32> {
  %0 = aten.get @scale : tensor<1x1x8xf32>
  %1 = aten.mul.Tensor(%x, %0) : (tensor<1x?x8xf32>, tensor<1x1x8xf32>) -> tensor<1x?x8xf32>
  func.return %1 : tensor<1x?x8xf32>
}
// CHECK-LABEL: func.func @broadcast(%x: tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %0 = aten.get @scale : tensor<1x1x8xf32>
// CHECK-NEXT:    %1 = aten.reshape(%0, shape = [8]) : (tensor<1x1x8xf32>) -> tensor<8xf32>
// CHECK-NEXT:    %2 = aten.mul.Tensor(%x, %1) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %2 : tensor<?x8xf32>

// A permutation of one token's share stays one.
func.func @inside(%x: tensor<1x?x2x4xf32>) -> tensor<1x4x?x2xf32> {
  %0 = aten.permute(%x, dims = [0, 3, 1, 2]) : (tensor<1x?x2x4xf32>) -> tensor<1x4x?x2xf32>
  func.return %0 : tensor<1x4x?x2xf32>
}
// CHECK-LABEL: func.func @inside(%x: tensor<?x2x4xf32>) -> tensor<?x4x2xf32>
// CHECK-NEXT:    %0 = aten.permute(%x, dims = [0, 2, 1]) : (tensor<?x2x4xf32>) -> tensor<?x4x2xf32>
// CHECK-NEXT:    func.return %0 : tensor<?x4x2xf32>

// Along one token's dimensions: the dimension is counted anew.
func.func @along(%x: tensor<1x2x?x4xf32>) -> (tensor<1x2x?x3xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x1xf32>) {
  %0 = aten.slice.Tensor(%x, dim = -1, start = 1, end = 4) : (tensor<1x2x?x4xf32>) -> tensor<1x2x?x3xf32>
  %1 = aten.cat([%x, %x], dim = 3) : (tensor<1x2x?x4xf32>, tensor<1x2x?x4xf32>) -> tensor<1x2x?x8xf32>
  %2 = aten.mean.dim(%x, dim = [-1], keepdim = true) : (tensor<1x2x?x4xf32>) -> tensor<1x2x?x1xf32>
  func.return %0, %1, %2 : tensor<1x2x?x3xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x1xf32>
}
// CHECK-LABEL: func.func @along(%x: tensor<?x2x4xf32>) -> (tensor<?x2x3xf32>, tensor<?x2x8xf32>, tensor<?x2x1xf32>)
// CHECK-NEXT:    %0 = aten.slice.Tensor(%x, dim = 2, start = 1, end = 4) : (tensor<?x2x4xf32>) -> tensor<?x2x3xf32>
// CHECK-NEXT:    %1 = aten.cat([%x, %x], dim = 2) : (tensor<?x2x4xf32>, tensor<?x2x4xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %2 = aten.mean.dim(%x, dim = [2], keepdim = true) : (tensor<?x2x4xf32>) -> tensor<?x2x1xf32>
// CHECK-NEXT:    func.return %0, %1, %2 : tensor<?x2x3xf32>, tensor<?x2x8xf32>, tensor<?x2x1xf32>
