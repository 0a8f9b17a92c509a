// RUN: sparsecomp-opt %s -p insert-predictors,fuse-sparse-mlp | filecheck %s
// Coarse values of all neurons sort them in three: those above the threshold are computed from all
// of their weights, those above the floor count as they are. Many rows stay masked.
aten.weight @gate : tensor<96x64xf32>
aten.weight @up : tensor<96x64xf32>
aten.weight @down : tensor<64x96xf32>
// CHECK: aten.weight @mlp.correction.basis : tensor<16x64xf32>
// CHECK-NEXT: aten.weight @mlp.correction.factors : tensor<192x16xf32>
// CHECK-NEXT: aten.derived @down.norms : tensor<96xf32>
func.func @forward(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  // CHECK: func.func @forward
  // CHECK: spz.gated_mlp {{.*}} keeping {{.*}} : tensor<?x96xi1>, tensor<?x96xi1>, tensor<?x96xf32> {module = "mlp"
  %0 = spz.gated_mlp %x, @gate, @up, @down {module = "mlp", sparsity = #spz.sparsity<nested, threshold = 0.5, floor = 0.125, density = 0.25, coarse = 0.5, rank = 16>, act = #spz<act silu>} : tensor<?x64xf32> -> tensor<?x64xf32>
  func.return %0 : tensor<?x64xf32>
}
func.func @decode(%x: tensor<1x64xf32>) -> tensor<1x64xf32> {
  // CHECK: func.func @decode([[X:%.*]]: tensor<1x64xf32>)
  // CHECK-NEXT: [[Z:%.*]] = spz.linear [[X]], @mlp.correction.basis
  // CHECK-NEXT: [[A:%.*]] = spz.neurons [[X]] corrected by [[Z]] : tensor<1x16xf32> {module = "mlp", gate = @gate, up = @up, act = #spz<act silu>, correction = @mlp.correction.factors, coarse}
  // CHECK-NEXT: [[FINE:%.*]] = spz.select [[A]] {module = "mlp", magnitude, scales = @down.norms, threshold = 5.000000e-01 : f64, density = 2.500000e-01 : f64
  // CHECK-NEXT: [[REST:%.*]] = spz.select [[A]] {module = "mlp", magnitude, scales = @down.norms, threshold = 1.250000e-01 : f64, below = 5.000000e-01 : f64, density = 5.000000e-01 : f64
  // CHECK-NEXT: spz.sparse_mlp [[X]], [[FINE]] and [[REST]] of [[A]] : tensor<1x96xi1>, tensor<1x96xf32> {module = "mlp", gate = @gate, up = @up, down = @down, act = #spz<act silu>, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64, rest_density = 5.000000e-01 : f64}
  %0 = spz.gated_mlp %x, @gate, @up, @down {module = "mlp", sparsity = #spz.sparsity<nested, threshold = 0.5, floor = 0.125, density = 0.25, coarse = 0.5, rank = 16>, act = #spz<act silu>} : tensor<1x64xf32> -> tensor<1x64xf32>
  func.return %0 : tensor<1x64xf32>
}
