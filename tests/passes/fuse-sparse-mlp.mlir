// RUN: sparsecomp-opt %s -p fuse-sparse-mlp | filecheck %s

// One row's MLP reads the neurons that are selected; many rows stay masked, and dense stays dense.
func.func @prefill(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %0 = spz.predict %x, @p.down, @p.up, @p.bias {lookahead = 0 : i64} : tensor<?x8xf32> -> tensor<?x16xf32>
  %1 = spz.select %0 {threshold = 5.000000e-01 : f64, density = 2.500000e-01 : f64, active = 1.250000e-01 : f64} : tensor<?x16xf32> -> tensor<?x16xi1>
  %2 = spz.mlp %x, @up, @down keeping %1 : tensor<?x16xi1> {act = #spz<act relu>} : tensor<?x8xf32> -> tensor<?x8xf32>
  func.return %2 : tensor<?x8xf32>
}
func.func @decode(%x: tensor<1x8xf32>) -> tensor<1x8xf32> {
  %0 = spz.predict %x, @p.down, @p.up, @p.bias {lookahead = 0 : i64} : tensor<1x8xf32> -> tensor<1x16xf32>
  %1 = spz.select %0 {threshold = 5.000000e-01 : f64, density = 2.500000e-01 : f64, active = 1.250000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
  %2 = spz.mlp %x, @up, @down keeping %1 : tensor<1x16xi1> {module = "mlp", act = #spz<act relu>, up_bias = @u, down_bias = @d} : tensor<1x8xf32> -> tensor<1x8xf32>
  %3 = spz.gated_mlp %2, @gate, @up, @down keeping %1 : tensor<1x16xi1> {act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  %4 = spz.mlp %3, @up, @down {act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  func.return %4 : tensor<1x8xf32>
}

// CHECK-LABEL: func.func @prefill(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
// CHECK-NEXT:   %0 = spz.predict %x, @p.down, @p.up, @p.bias {lookahead = 0 : i64} : tensor<?x8xf32> -> tensor<?x16xf32>
// CHECK-NEXT:   %1 = spz.select %0 {threshold = 5.000000e-01 : f64, density = 2.500000e-01 : f64, active = 1.250000e-01 : f64} : tensor<?x16xf32> -> tensor<?x16xi1>
// CHECK-NEXT:   %2 = spz.mlp %x, @up, @down keeping %1 : tensor<?x16xi1> {act = #spz<act relu>} : tensor<?x8xf32> -> tensor<?x8xf32>
// CHECK-NEXT:   func.return %2 : tensor<?x8xf32>
// CHECK-NEXT: }
// CHECK-LABEL: func.func @decode(%x: tensor<1x8xf32>) -> tensor<1x8xf32> {
// CHECK-NEXT:   %0 = spz.predict %x, @p.down, @p.up, @p.bias {lookahead = 0 : i64} : tensor<1x8xf32> -> tensor<1x16xf32>
// CHECK-NEXT:   %1 = spz.select %0 {threshold = 5.000000e-01 : f64, density = 2.500000e-01 : f64, active = 1.250000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
// CHECK-NEXT:   %2 = spz.sparse_mlp %x, %1 {module = "mlp", up = @up, down = @down, act = #spz<act relu>, up_bias = @u, down_bias = @d, density = 2.500000e-01 : f64, active = 1.250000e-01 : f64} : tensor<1x8xf32>, tensor<1x16xi1> -> tensor<1x8xf32>
// CHECK-NEXT:   %3 = spz.sparse_mlp %2, %1 {gate = @gate, up = @up, down = @down, act = #spz<act silu>, density = 2.500000e-01 : f64, active = 1.250000e-01 : f64} : tensor<1x8xf32>, tensor<1x16xi1> -> tensor<1x8xf32>
// CHECK-NEXT:   %4 = spz.mlp %3, @up, @down {act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x8xf32>
// CHECK-NEXT:   func.return %4 : tensor<1x8xf32>
// CHECK-NEXT: }
