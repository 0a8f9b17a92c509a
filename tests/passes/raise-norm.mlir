// RUN: sparsecomp-opt %s -p raise-norm | filecheck %s

aten.weight @scale : tensor<8xf32>
aten.weight @shift : tensor<8xf32>

func.func @rms(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %0 = aten.pow.Tensor_Scalar(%x, exponent = 2) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %1 = aten.mean.dim(%0, dim = [1], keepdim = true) : (tensor<?x8xf32>) -> tensor<?x1xf32>
  %2 = aten.add.Scalar(%1, other = 0.5) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %3 = aten.rsqrt(%2) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %4 = aten.mul.Tensor(%x, %3) : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32> {module = "norm"}
  %5 = aten.get @scale : tensor<8xf32>
  %6 = aten.mul.Tensor(%5, %4) : (tensor<8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32> {module = "norm"}
  func.return %6 : tensor<?x8xf32>
}
// CHECK-LABEL: func.func @rms(%x: tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %0 = spz.rms_norm %x, @scale {module = "norm", eps = 5.000000e-01 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %0 : tensor<?x8xf32>

// The same as a division by the root.
func.func @divided(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %0 = aten.mul.Tensor(%x, %x) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %1 = aten.mean.dim(%0, dim = [-1], keepdim = true) : (tensor<?x8xf32>) -> tensor<?x1xf32>
  %2 = aten.add.Scalar(%1, other = 0.5) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %3 = aten.sqrt(%2) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %4 = aten.div.Tensor(%x, %3) : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
  func.return %4 : tensor<?x8xf32>
}
// CHECK-LABEL: func.func @divided(%x: tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %0 = spz.rms_norm %x {eps = 5.000000e-01 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %0 : tensor<?x8xf32>

// Centred first, scaled and shifted last: a layer norm.
func.func @layer_norm(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %0 = aten.mean.dim(%x, dim = [1], keepdim = true) : (tensor<?x8xf32>) -> tensor<?x1xf32>
  %1 = aten.sub.Tensor(%x, %0) : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
  %2 = aten.pow.Tensor_Scalar(%1, exponent = 2) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %3 = aten.mean.dim(%2, dim = [1], keepdim = true) : (tensor<?x8xf32>) -> tensor<?x1xf32>
  %4 = aten.add.Scalar(%3, other = 0.5) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %5 = aten.rsqrt(%4) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %6 = aten.mul.Tensor(%1, %5) : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
  %7 = aten.get @scale : tensor<8xf32>
  %8 = aten.mul.Tensor(%6, %7) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  %9 = aten.get @shift : tensor<8xf32>
  %10 = aten.add.Tensor(%8, %9) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  func.return %10 : tensor<?x8xf32>
}
// CHECK-LABEL: func.func @layer_norm(%x: tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %0 = spz.layer_norm %x {eps = 5.000000e-01 : f64, weight = @scale, bias = @shift} : tensor<?x8xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %0 : tensor<?x8xf32>

// A norm that something else reads too keeps its scale apart.
func.func @shared(%x: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %0 = spz.rms_norm %x {eps = 5.000000e-01 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
  %1 = aten.get @scale : tensor<8xf32>
  %2 = aten.mul.Tensor(%0, %1) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  func.return %0, %2 : tensor<?x8xf32>, tensor<?x8xf32>
}
// CHECK-LABEL: func.func @shared(%x: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>)
// CHECK-NEXT:    %0 = spz.rms_norm %x {eps = 5.000000e-01 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    %1 = aten.get @scale : tensor<8xf32>
// CHECK-NEXT:    %2 = aten.mul.Tensor(%0, %1) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %0, %2 : tensor<?x8xf32>, tensor<?x8xf32>

// The mean of the squares of something else is no norm of x.
func.func @other(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %0 = aten.exp(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %1 = aten.pow.Tensor_Scalar(%0, exponent = 2) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %2 = aten.mean.dim(%1, dim = [1], keepdim = true) : (tensor<?x8xf32>) -> tensor<?x1xf32>
  %3 = aten.add.Scalar(%2, other = 0.5) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %4 = aten.rsqrt(%3) : (tensor<?x1xf32>) -> tensor<?x1xf32>
  %5 = aten.mul.Tensor(%x, %4) : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
  func.return %5 : tensor<?x8xf32>
}
// CHECK-LABEL: func.func @other(%x: tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %0 = aten.exp(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %1 = aten.pow.Tensor_Scalar(%0, exponent = 2) : (tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %2 = aten.mean.dim(%1, dim = [1], keepdim = true) : (tensor<?x8xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %3 = aten.add.Scalar(%2, other = 0.5) : (tensor<?x1xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %4 = aten.rsqrt(%3) : (tensor<?x1xf32>) -> tensor<?x1xf32>
// CHECK-NEXT:    %5 = aten.mul.Tensor(%x, %4) : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %5 : tensor<?x8xf32>
