// RUN: sparsecomp-opt %s -p raise-attention | filecheck %s

aten.weight @attn.sinks : tensor<2xf32>

// A column with a logit per head joins the softmax, the largest is subtracted first, and its share
// is cut off: sinks.
func.func @forward(%x: tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {
  %kt = aten.permute(%x, dims = [0, 1, 3, 2]) : (tensor<1x2x?x8xf32>) -> tensor<1x2x8x?xf32>
  %0 = aten.matmul(%x, %kt) : (tensor<1x2x?x8xf32>, tensor<1x2x8x?xf32>) -> tensor<1x2x?x?xf32>
  %full = aten.full(size = [s, s], fill_value = -inf) : () -> tensor<?x?xf32>
  %mask = aten.triu(%full, diagonal = 1) : (tensor<?x?xf32>) -> tensor<?x?xf32>
  %1 = aten.add.Tensor(%0, %mask) : (tensor<1x2x?x?xf32>, tensor<?x?xf32>) -> tensor<1x2x?x?xf32>
  %2 = aten.get @attn.sinks : tensor<2xf32>
  %3 = aten.reshape(%2, shape = [1, 2, 1, 1]) : (tensor<2xf32>) -> tensor<1x2x1x1xf32>
  %4 = aten.expand(%3, size = [1, 2, s, 1]) : (tensor<1x2x1x1xf32>) -> tensor<1x2x?x1xf32>
  %5 = aten.cat([%1, %4], dim = -1) : (tensor<1x2x?x?xf32>, tensor<1x2x?x1xf32>) -> tensor<1x2x?x?xf32>
  %6 = aten.amax(%5, dim = [-1], keepdim = true) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x1xf32>
  %7 = aten.sub.Tensor(%5, %6) : (tensor<1x2x?x?xf32>, tensor<1x2x?x1xf32>) -> tensor<1x2x?x?xf32>
  %8 = aten.softmax.int(%7, dim = -1) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32> {module = "attn"}
  %9 = aten.slice.Tensor(%8, dim = 3, end = -1) : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32>
  %10 = aten.matmul(%9, %x) : (tensor<1x2x?x?xf32>, tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {module = "attn"}
  func.return %10 : tensor<1x2x?x8xf32>
}
// CHECK-LABEL: func.func @forward(%x: tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32>
// CHECK-NEXT:    %0 = aten.reshape(%x, shape = [2, s, 8]) : (tensor<1x2x?x8xf32>) -> tensor<2x?x8xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0, 2]) : (tensor<2x?x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %2 = aten.permute(%x, dims = [2, 0, 1, 3]) : (tensor<1x2x?x8xf32>) -> tensor<?x1x2x8xf32>
// CHECK-NEXT:    %3 = aten.reshape(%2, shape = [s, 2, 8]) : (tensor<?x1x2x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %4 = aten.permute(%x, dims = [2, 0, 1, 3]) : (tensor<1x2x?x8xf32>) -> tensor<?x1x2x8xf32>
// CHECK-NEXT:    %5 = aten.reshape(%4, shape = [s, 2, 8]) : (tensor<?x1x2x8xf32>) -> tensor<?x2x8xf32>
// CHECK-NEXT:    %6 = spz.attention %1, %3, %5 {module = "attn", scale = 1.000000e+00 : f64, sinks = @attn.sinks} : tensor<?x2x8xf32>, tensor<?x2x8xf32>, tensor<?x2x8xf32> -> tensor<?x2x8xf32>
// CHECK-NEXT:    %7 = aten.permute(%6, dims = [1, 0, 2]) : (tensor<?x2x8xf32>) -> tensor<2x?x8xf32> {module = "attn"}
// CHECK-NEXT:    %8 = aten.reshape(%7, shape = [1, 2, s, 8]) : (tensor<2x?x8xf32>) -> tensor<1x2x?x8xf32> {module = "attn"}
// CHECK-NEXT:    func.return %8 : tensor<1x2x?x8xf32>
