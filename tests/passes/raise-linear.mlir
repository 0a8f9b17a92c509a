// RUN: sparsecomp-opt %s -p raise-linear | filecheck %s

// CHECK:       aten.derived @conv1d.transposed : tensor<8x4xf32>
// CHECK-NEXT:    %0 = aten.get @conv1d : tensor<4x8xf32>
// CHECK-NEXT:    %1 = aten.permute(%0, dims = [1, 0]) : (tensor<4x8xf32>) -> tensor<8x4xf32>

aten.weight @table : tensor<16x4xf32>
aten.weight @w : tensor<8x4xf32>
aten.weight @b : tensor<8xf32>
aten.weight @conv1d : tensor<4x8xf32>
aten.weight @scale : tensor<4xf32>
aten.weight @shift : tensor<4xf32>

func.func @embedding(%ids: tensor<?xi64>) -> tensor<?x4xf32> {
  %0 = aten.get @table : tensor<16x4xf32>
  %1 = aten.embedding(%0, %ids) : (tensor<16x4xf32>, tensor<?xi64>) -> tensor<?x4xf32> {module = "embed"}
  func.return %1 : tensor<?x4xf32>
}
// CHECK-LABEL: func.func @embedding(%ids: tensor<?xi64>) -> tensor<?x4xf32>
// CHECK-NEXT:    %0 = spz.embed %ids, @table {module = "embed"} : tensor<?xi64> -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %0 : tensor<?x4xf32>

func.func @linear(%x: tensor<?x4xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %0 = aten.get @w : tensor<8x4xf32>
  %1 = aten.get @b : tensor<8xf32>
  %2 = aten.linear(%x, %0) : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32> {module = "a"}
  %3 = aten.linear(%x, %0, %1) : (tensor<?x4xf32>, tensor<8x4xf32>, tensor<8xf32>) -> tensor<?x8xf32> {module = "b"}
  func.return %2, %3 : tensor<?x8xf32>, tensor<?x8xf32>
}
// CHECK-LABEL: func.func @linear(%x: tensor<?x4xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>)
// CHECK-NEXT:    %0 = spz.linear %x, @w {module = "a"} : tensor<?x4xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    %1 = spz.linear %x, @w, @b {module = "b"} : tensor<?x4xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %0, %1 : tensor<?x8xf32>, tensor<?x8xf32>

// A matrix stored input-first is transposed once.
func.func @product(%x: tensor<?x4xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %0 = aten.get @conv1d : tensor<4x8xf32>
  %1 = aten.get @b : tensor<8xf32>
  %2 = aten.matmul(%x, %0) : (tensor<?x4xf32>, tensor<4x8xf32>) -> tensor<?x8xf32>
  %3 = aten.addmm(%1, %x, %0) : (tensor<8xf32>, tensor<?x4xf32>, tensor<4x8xf32>) -> tensor<?x8xf32>
  func.return %2, %3 : tensor<?x8xf32>, tensor<?x8xf32>
}
// CHECK-LABEL: func.func @product(%x: tensor<?x4xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>)
// CHECK-NEXT:    %0 = spz.linear %x, @conv1d.transposed : tensor<?x4xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    %1 = spz.linear %x, @conv1d.transposed, @b : tensor<?x4xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %0, %1 : tensor<?x8xf32>, tensor<?x8xf32>

func.func @norms(%x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>) {
  %0 = aten.get @scale : tensor<4xf32>
  %1 = aten.get @shift : tensor<4xf32>
  %2 = aten.layer_norm(%x, normalized_shape = [4], weight = %0, bias = %1) : (tensor<?x4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  %3 = aten.layer_norm(%x, normalized_shape = [4], eps = 0.25) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  %4 = aten.rms_norm(%x, normalized_shape = [4], weight = %0, eps = 0.5) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  func.return %2, %3, %4 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>
}
// CHECK-LABEL: func.func @norms(%x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>)
// CHECK-NEXT:    %0 = spz.layer_norm %x {weight = @scale, bias = @shift, eps = 1.000000e-05 : f64} : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    %1 = spz.layer_norm %x {eps = 2.500000e-01 : f64} : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    %2 = spz.rms_norm %x, @scale {eps = 5.000000e-01 : f64} : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %0, %1, %2 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>

// A product of two values that depend on tokens is no linear.
func.func @tokens(%x: tensor<?x4xf32>, %y: tensor<?xi64>) -> tensor<?x4xf32> {
  %0 = aten.get @table : tensor<16x4xf32>
  %1 = aten.embedding(%0, %y) : (tensor<16x4xf32>, tensor<?xi64>) -> tensor<?x4xf32>
  %2 = aten.mul.Tensor(%1, %1) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  func.return %2 : tensor<?x4xf32>
}
// CHECK-LABEL: func.func @tokens(%x: tensor<?x4xf32>, %y: tensor<?xi64>) -> tensor<?x4xf32>
// CHECK-NEXT:    %0 = spz.embed %y, @table : tensor<?xi64> -> tensor<?x4xf32>
// CHECK-NEXT:    %1 = aten.mul.Tensor(%0, %0) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %1 : tensor<?x4xf32>
