// RUN: sparsecomp-opt %s -p raise-attention,canonicalize | filecheck %s

// Keys and values of one head that the products broadcast to four queries' heads; shares that two
// values are summed with become two attentions.
func.func @forward(%x: tensor<1x4x?x8xf32>, %unused: tensor<1xi64>, %y: tensor<1x1x?x8xf32>, %z: tensor<1x1x?x2xf32>) -> (tensor<1x4x?x8xf32>, tensor<1x4x?x2xf32>) {
  %kt = aten.permute(%y, dims = [0, 1, 3, 2]) : (tensor<1x1x?x8xf32>) -> tensor<1x1x8x?xf32>
  %0 = aten.matmul(%x, %kt) : (tensor<1x4x?x8xf32>, tensor<1x1x8x?xf32>) -> tensor<1x4x?x?xf32>
  %full = aten.full(size = [s, s], fill_value = -inf) : () -> tensor<?x?xf32>
  %mask = aten.triu(%full, diagonal = 1) : (tensor<?x?xf32>) -> tensor<?x?xf32>
  %1 = aten.add.Tensor(%0, %mask) : (tensor<1x4x?x?xf32>, tensor<?x?xf32>) -> tensor<1x4x?x?xf32>
  %2 = aten.softmax.int(%1, dim = -1) : (tensor<1x4x?x?xf32>) -> tensor<1x4x?x?xf32> {module = "attn"}
  %3 = aten.matmul(%2, %y) : (tensor<1x4x?x?xf32>, tensor<1x1x?x8xf32>) -> tensor<1x4x?x8xf32> {module = "attn"}
  %4 = aten.matmul(%2, %z) : (tensor<1x4x?x?xf32>, tensor<1x1x?x2xf32>) -> tensor<1x4x?x2xf32> {module = "attn"}
  func.return %3, %4 : tensor<1x4x?x8xf32>, tensor<1x4x?x2xf32>
}
// CHECK-LABEL: func.func @forward(%x: tensor<1x4x?x8xf32>, %unused: tensor<1xi64>, %y: tensor<1x1x?x8xf32>, %z: tensor<1x1x?x2xf32>) -> (tensor<1x4x?x8xf32>, tensor<1x4x?x2xf32>)
// CHECK-NEXT:    %0 = aten.reshape(%x, shape = [4, s, 8]) : (tensor<1x4x?x8xf32>) -> tensor<4x?x8xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0, 2]) : (tensor<4x?x8xf32>) -> tensor<?x4x8xf32>
// CHECK-NEXT:    %2 = aten.permute(%y, dims = [2, 0, 1, 3]) : (tensor<1x1x?x8xf32>) -> tensor<?x1x1x8xf32>
// CHECK-NEXT:    %3 = aten.reshape(%2, shape = [s, 1, 8]) : (tensor<?x1x1x8xf32>) -> tensor<?x1x8xf32>
// CHECK-NEXT:    %4 = spz.attention %1, %3, %3 {module = "attn", scale = 1.000000e+00 : f64} : tensor<?x4x8xf32>, tensor<?x1x8xf32>, tensor<?x1x8xf32> -> tensor<?x4x8xf32>
// CHECK-NEXT:    %5 = aten.permute(%4, dims = [1, 0, 2]) : (tensor<?x4x8xf32>) -> tensor<4x?x8xf32> {module = "attn"}
// CHECK-NEXT:    %6 = aten.reshape(%5, shape = [1, 4, s, 8]) : (tensor<4x?x8xf32>) -> tensor<1x4x?x8xf32> {module = "attn"}
// CHECK-NEXT:    %7 = aten.permute(%z, dims = [2, 0, 1, 3]) : (tensor<1x1x?x2xf32>) -> tensor<?x1x1x2xf32>
// CHECK-NEXT:    %8 = aten.reshape(%7, shape = [s, 1, 2]) : (tensor<?x1x1x2xf32>) -> tensor<?x1x2xf32>
// CHECK-NEXT:    %9 = spz.attention %1, %3, %8 {module = "attn", scale = 1.000000e+00 : f64} : tensor<?x4x8xf32>, tensor<?x1x8xf32>, tensor<?x1x2xf32> -> tensor<?x4x2xf32>
// CHECK-NEXT:    %10 = aten.permute(%9, dims = [1, 0, 2]) : (tensor<?x4x2xf32>) -> tensor<4x?x2xf32> {module = "attn"}
// CHECK-NEXT:    %11 = aten.reshape(%10, shape = [1, 4, s, 2]) : (tensor<4x?x2xf32>) -> tensor<1x4x?x2xf32> {module = "attn"}
// CHECK-NEXT:    func.return %6, %11 : tensor<1x4x?x8xf32>, tensor<1x4x?x2xf32>
