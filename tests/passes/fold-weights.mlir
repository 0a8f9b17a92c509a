// RUN: sparsecomp-opt %s -p fold-weights | filecheck %s

// CHECK:       aten.derived @norm.weight.folded : tensor<8xf32>
// CHECK-NEXT:    %0 = aten.get @norm.weight : tensor<8xf32>
// CHECK-NEXT:    %1 = aten.to.dtype(%0, dtype = f32) : (tensor<8xf32>) -> tensor<8xf32>
// CHECK-NEXT:    %2 = aten.add.Scalar(%1, other = 1.0) : (tensor<8xf32>) -> tensor<8xf32>
// CHECK:       aten.derived @proj.folded : tensor<8x8xf32>
// CHECK-NEXT:    %0 = aten.get @norm.weight : tensor<8xf32>
// CHECK-NEXT:    %1 = aten.get @proj.weight : tensor<8x8xf32>
// CHECK-NEXT:    %2 = aten.mul.Tensor(%1, %0) : (tensor<8x8xf32>, tensor<8xf32>) -> tensor<8x8xf32> {module = "proj"}

aten.weight @norm.weight : tensor<8xf32>
aten.weight @proj.weight : tensor<8x8xf32>

// A chain of weight-only ops is one derived weight, named after the weight that it reads.
func.func @scaled(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32> {
  %0 = aten.get @norm.weight : tensor<8xf32>
  %1 = aten.to.dtype(%0, dtype = f32) : (tensor<8xf32>) -> tensor<8xf32>
  %2 = aten.add.Scalar(%1, other = 1.0) : (tensor<8xf32>) -> tensor<8xf32>
  %3 = aten.mul.Tensor(%x, %2) : (tensor<1x?x8xf32>, tensor<8xf32>) -> tensor<1x?x8xf32>
  func.return %3 : tensor<1x?x8xf32>
}
// CHECK-LABEL: func.func @scaled(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    %0 = aten.get @norm.weight.folded : tensor<8xf32>
// CHECK-NEXT:    %1 = aten.mul.Tensor(%x, %0) : (tensor<1x?x8xf32>, tensor<8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    func.return %1 : tensor<1x?x8xf32>

// A weight is read as it is; the same computation is the same derived weight.
func.func @again(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32> {
  %0 = aten.get @norm.weight : tensor<8xf32>
  %1 = aten.to.dtype(%0, dtype = f32) : (tensor<8xf32>) -> tensor<8xf32>
  %2 = aten.add.Scalar(%1, other = 1.0) : (tensor<8xf32>) -> tensor<8xf32>
  %3 = aten.mul.Tensor(%x, %2) : (tensor<1x?x8xf32>, tensor<8xf32>) -> tensor<1x?x8xf32>
  %4 = aten.mul.Tensor(%3, %0) : (tensor<1x?x8xf32>, tensor<8xf32>) -> tensor<1x?x8xf32>
  func.return %4 : tensor<1x?x8xf32>
}
// CHECK-LABEL: func.func @again(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    %0 = aten.get @norm.weight : tensor<8xf32>
// CHECK-NEXT:    %1 = aten.get @norm.weight.folded : tensor<8xf32>
// CHECK-NEXT:    %2 = aten.mul.Tensor(%x, %1) : (tensor<1x?x8xf32>, tensor<8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    %3 = aten.mul.Tensor(%2, %0) : (tensor<1x?x8xf32>, tensor<8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    func.return %3 : tensor<1x?x8xf32>

// Of several weights it is named after its module.
func.func @joined(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32> {
  %0 = aten.get @norm.weight : tensor<8xf32>
  %1 = aten.get @proj.weight : tensor<8x8xf32>
  %2 = aten.mul.Tensor(%1, %0) : (tensor<8x8xf32>, tensor<8xf32>) -> tensor<8x8xf32> {module = "proj"}
  %3 = aten.linear(%x, %2) : (tensor<1x?x8xf32>, tensor<8x8xf32>) -> tensor<1x?x8xf32>
  func.return %3 : tensor<1x?x8xf32>
}
// CHECK-LABEL: func.func @joined(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    %0 = aten.get @proj.folded : tensor<8x8xf32>
// CHECK-NEXT:    %1 = aten.linear(%x, %0) : (tensor<1x?x8xf32>, tensor<8x8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    func.return %1 : tensor<1x?x8xf32>

// What depends on the sequence length is no weight.
func.func @length(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32> {
  %0 = aten.full(size = [], fill_value = s, dtype = f32) : () -> tensor<f32>
  %1 = aten.mul.Tensor(%x, %0) : (tensor<1x?x8xf32>, tensor<f32>) -> tensor<1x?x8xf32>
  func.return %1 : tensor<1x?x8xf32>
}
// CHECK-LABEL: func.func @length(%x: tensor<1x?x8xf32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    %0 = aten.full(size = [], fill_value = s, dtype = f32) : () -> tensor<f32>
// CHECK-NEXT:    %1 = aten.mul.Tensor(%x, %0) : (tensor<1x?x8xf32>, tensor<f32>) -> tensor<1x?x8xf32>
// CHECK-NEXT:    func.return %1 : tensor<1x?x8xf32>
