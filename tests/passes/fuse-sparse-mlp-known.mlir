// RUN: sparsecomp-opt %s -p fuse-sparse-mlp | filecheck %s

// Values that the selection was made from are known: all of a neuron, or its gate. Those of other
// weights, of another activation or of another input are not.
func.func @decode(%x: tensor<1x8xf32>) -> tensor<1x8xf32> {
  %0 = spz.neurons %x {up = @up, up_bias = @u, act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x16xf32>
  %1 = spz.select %0 {threshold = 0.000000e+00 : f64, magnitude, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
  %2 = spz.mlp %x, @up, @down keeping %1 : tensor<1x16xi1> {act = #spz<act relu>, up_bias = @u} : tensor<1x8xf32> -> tensor<1x8xf32>
  %3 = spz.mlp %x, @up, @down keeping %1 : tensor<1x16xi1> {act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  %4 = spz.mlp %x, @up, @down keeping %1 : tensor<1x16xi1> {act = #spz<act relu2>, up_bias = @u} : tensor<1x8xf32> -> tensor<1x8xf32>
  %5 = spz.mlp %2, @up, @down keeping %1 : tensor<1x16xi1> {act = #spz<act relu>, up_bias = @u} : tensor<1x8xf32> -> tensor<1x8xf32>
  %6 = spz.neurons %x {gate = @gate, act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x16xf32>
  %7 = spz.select %6 {threshold = 1.000000e-01 : f64, magnitude, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
  %8 = spz.gated_mlp %x, @gate, @up, @down keeping %7 : tensor<1x16xi1> {act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  %9 = spz.neurons %x {gate = @gate, up = @up, act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x16xf32>
  %10 = spz.select %9 {threshold = 1.000000e-01 : f64, magnitude, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
  %11 = spz.gated_mlp %x, @gate, @up, @down keeping %10 : tensor<1x16xi1> {act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  func.return %11 : tensor<1x8xf32>
}

// CHECK-LABEL: func.func @decode(%x: tensor<1x8xf32>) -> tensor<1x8xf32> {
// CHECK-NEXT:   %0 = spz.neurons %x {up = @up, up_bias = @u, act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x16xf32>
// CHECK-NEXT:   %1 = spz.select %0 {threshold = 0.000000e+00 : f64, magnitude, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
// CHECK-NEXT:   %2 = spz.sparse_mlp %x, %1 knowing %0 : tensor<1x16xf32> {up = @up, down = @down, act = #spz<act relu>, up_bias = @u, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64} : tensor<1x8xf32>, tensor<1x16xi1> -> tensor<1x8xf32>
// CHECK-NEXT:   %3 = spz.sparse_mlp %x, %1 {up = @up, down = @down, act = #spz<act relu>, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64} : tensor<1x8xf32>, tensor<1x16xi1> -> tensor<1x8xf32>
// CHECK-NEXT:   %4 = spz.sparse_mlp %x, %1 {up = @up, down = @down, act = #spz<act relu2>, up_bias = @u, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64} : tensor<1x8xf32>, tensor<1x16xi1> -> tensor<1x8xf32>
// CHECK-NEXT:   %5 = spz.sparse_mlp %2, %1 {up = @up, down = @down, act = #spz<act relu>, up_bias = @u, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64} : tensor<1x8xf32>, tensor<1x16xi1> -> tensor<1x8xf32>
// CHECK-NEXT:   %6 = spz.neurons %x {gate = @gate, act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x16xf32>
// CHECK-NEXT:   %7 = spz.select %6 {threshold = 1.000000e-01 : f64, magnitude, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
// CHECK-NEXT:   %8 = spz.sparse_mlp %x, %7 knowing %6 : tensor<1x16xf32> {gate = @gate, up = @up, down = @down, act = #spz<act silu>, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64, gate_known} : tensor<1x8xf32>, tensor<1x16xi1> -> tensor<1x8xf32>
// CHECK-NEXT:   %9 = spz.neurons %x {gate = @gate, up = @up, act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x16xf32>
// CHECK-NEXT:   %10 = spz.select %9 {threshold = 1.000000e-01 : f64, magnitude, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
// CHECK-NEXT:   %11 = spz.sparse_mlp %x, %10 knowing %9 : tensor<1x16xf32> {gate = @gate, up = @up, down = @down, act = #spz<act silu>, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x8xf32>, tensor<1x16xi1> -> tensor<1x8xf32>
// CHECK-NEXT:   func.return %11 : tensor<1x8xf32>
// CHECK-NEXT: }
