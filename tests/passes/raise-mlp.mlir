// RUN: sparsecomp-opt %s -p raise-mlp | filecheck %s

aten.weight @mlp.gate.weight : tensor<8x4xf32>
aten.weight @mlp.up.weight : tensor<8x4xf32>
aten.weight @mlp.up.bias : tensor<8xf32>
aten.weight @mlp.down.weight : tensor<4x8xf32>
aten.weight @mlp.down.bias : tensor<4xf32>

func.func @plain(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %0 = spz.linear %x, @mlp.up.weight, @mlp.up.bias {module = "mlp.up"} : tensor<?x4xf32> -> tensor<?x8xf32>
  %1 = aten.relu(%0) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %2 = spz.linear %1, @mlp.down.weight, @mlp.down.bias {module = "mlp.down"} : tensor<?x8xf32> -> tensor<?x4xf32>
  func.return %2 : tensor<?x4xf32>
}
// CHECK-LABEL: func.func @plain(%x: tensor<?x4xf32>) -> tensor<?x4xf32>
// CHECK-NEXT:    %0 = spz.mlp %x, @mlp.up.weight, @mlp.down.weight {module = "mlp", down_bias = @mlp.down.bias, act = #spz<act relu>, up_bias = @mlp.up.bias} : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %0 : tensor<?x4xf32>

// An activation that is spelled out is known by its values: gelu's tanh form.
func.func @spelled(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %0 = spz.linear %x, @mlp.up.weight {module = "mlp.up"} : tensor<?x4xf32> -> tensor<?x8xf32>
  %1 = aten.mul.Scalar(%0, other = 0.5) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %2 = aten.pow.Tensor_Scalar(%0, exponent = 3.0) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %3 = aten.mul.Scalar(%2, other = 0.044715) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %4 = aten.add.Tensor(%0, %3) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %5 = aten.mul.Scalar(%4, other = 0.7978845608028654) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %6 = aten.tanh(%5) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %7 = aten.add.Scalar(%6, other = 1.0) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %8 = aten.mul.Tensor(%1, %7) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %9 = spz.linear %8, @mlp.down.weight {module = "mlp.down"} : tensor<?x8xf32> -> tensor<?x4xf32>
  func.return %9 : tensor<?x4xf32>
}
// CHECK-LABEL: func.func @spelled(%x: tensor<?x4xf32>) -> tensor<?x4xf32>
// CHECK-NEXT:    %0 = spz.mlp %x, @mlp.up.weight, @mlp.down.weight {module = "mlp", act = #spz<act gelu_tanh>} : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %0 : tensor<?x4xf32>

func.func @gated(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %0 = spz.linear %x, @mlp.gate.weight {module = "mlp.gate"} : tensor<?x4xf32> -> tensor<?x8xf32>
  %1 = spz.linear %x, @mlp.up.weight, @mlp.up.bias {module = "mlp.up"} : tensor<?x4xf32> -> tensor<?x8xf32>
  %2 = aten.silu(%0) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %3 = aten.mul.Tensor(%1, %2) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %4 = spz.linear %3, @mlp.down.weight {module = "mlp.down"} : tensor<?x8xf32> -> tensor<?x4xf32>
  func.return %4 : tensor<?x4xf32>
}
// CHECK-LABEL: func.func @gated(%x: tensor<?x4xf32>) -> tensor<?x4xf32>
// CHECK-NEXT:    %0 = spz.gated_mlp %x, @mlp.gate.weight, @mlp.up.weight, @mlp.down.weight {module = "mlp", act = #spz<act silu>, up_bias = @mlp.up.bias} : tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %0 : tensor<?x4xf32>

// Hidden values that something else reads must be there.
func.func @read(%x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x8xf32>) {
  %0 = spz.linear %x, @mlp.up.weight : tensor<?x4xf32> -> tensor<?x8xf32>
  %1 = aten.relu(%0) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %2 = spz.linear %1, @mlp.down.weight : tensor<?x8xf32> -> tensor<?x4xf32>
  func.return %2, %1 : tensor<?x4xf32>, tensor<?x8xf32>
}
// CHECK-LABEL: func.func @read(%x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x8xf32>)
// CHECK-NEXT:    %0 = spz.linear %x, @mlp.up.weight : tensor<?x4xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    %1 = aten.relu(%0) : (tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %2 = spz.linear %1, @mlp.down.weight : tensor<?x8xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %2, %1 : tensor<?x4xf32>, tensor<?x8xf32>

// Two linears in a row are no MLP, nor are two with a function that no kernel has.
func.func @unknown(%x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %0 = spz.linear %x, @mlp.up.weight : tensor<?x4xf32> -> tensor<?x8xf32>
  %1 = spz.linear %0, @mlp.down.weight : tensor<?x8xf32> -> tensor<?x4xf32>
  %2 = spz.linear %x, @mlp.gate.weight : tensor<?x4xf32> -> tensor<?x8xf32>
  %3 = aten.cos(%2) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %4 = spz.linear %3, @mlp.down.weight : tensor<?x8xf32> -> tensor<?x4xf32>
  func.return %1, %4 : tensor<?x4xf32>, tensor<?x4xf32>
}
// CHECK-LABEL: func.func @unknown(%x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>)
// CHECK-NEXT:    %0 = spz.linear %x, @mlp.up.weight : tensor<?x4xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    %1 = spz.linear %0, @mlp.down.weight : tensor<?x8xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    %2 = spz.linear %x, @mlp.gate.weight : tensor<?x4xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    %3 = aten.cos(%2) : (tensor<?x8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %4 = spz.linear %3, @mlp.down.weight : tensor<?x8xf32> -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %1, %4 : tensor<?x4xf32>, tensor<?x4xf32>
