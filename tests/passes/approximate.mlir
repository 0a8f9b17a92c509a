// RUN: sparsecomp-opt %s --dtype int8 -p insert-predictors,fuse-sparse-mlp,quantize-weights,choose-layouts,select-kernels,fuse-residual,schedule-workers | filecheck %s
// RUN: sparsecomp-opt %s -p insert-predictors,fuse-sparse-mlp | filecheck %s --check-prefix=SPARSE
// RUN: sparsecomp-opt %s --dtype int4 -p insert-predictors,quantize-weights | filecheck %s --check-prefix=FOUR

// Neurons chosen by a low-rank approximation of their gates and ups: its rows lie in turn, in 4 bits
// where weights are quantised, and their basis in 8. The chosen are computed exactly. Two workers.
aten.weight @table : tensor<16x64xf32>
aten.weight @gate : tensor<96x64xf32>
aten.weight @up : tensor<96x64xf32>
aten.weight @down : tensor<64x96xf32>
func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32> {
  %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x64xf32>
  %1 = spz.last %0 : tensor<?x64xf32> -> tensor<1x64xf32>
  %2 = spz.gated_mlp %1, @gate, @up, @down {module = "mlp", act = #spz<act silu>} : tensor<1x64xf32> -> tensor<1x64xf32>
  %3 = spz.lm_head %2, @table : tensor<1x64xf32> -> tensor<1x16xf32>
  func.return %3 : tensor<1x16xf32>
}
func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32> {
  %x = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x64xf32>
  %0 = spz.gated_mlp %x, @gate, @up, @down {module = "mlp", sparsity = #spz.sparsity<approximate, rank = 64, threshold = 0.5, density = 0.25, active = 0.25>, act = #spz<act silu>} : tensor<1x64xf32> -> tensor<1x64xf32>
  %1 = spz.lm_head %0, @table : tensor<1x64xf32> -> tensor<1x16xf32>
  func.return %1 : tensor<1x16xf32>
}

// FOUR: aten.weight @up {{.*}} {stored = i4}
// FOUR: aten.weight @mlp.approximation.basis {{.*}} {stored = i8}
// FOUR: aten.weight @mlp.approximation.gate {{.*}} {stored = i4}

// SPARSE: aten.weight @mlp.approximation.basis : tensor<64x64xf32>
// SPARSE-NEXT: aten.weight @mlp.approximation.bias : tensor<96xf32>
// SPARSE-NEXT: aten.weight @mlp.approximation.gate : tensor<96x64xf32>
// SPARSE-NEXT: aten.weight @mlp.approximation.up : tensor<96x64xf32>
// SPARSE-NEXT: aten.derived @down.norms : tensor<96xf32>
// SPARSE-LABEL: func.func @decode
// SPARSE: [[Z:%.*]] = spz.linear %x, @mlp.approximation.basis
// SPARSE-NEXT: [[A:%.*]] = spz.neurons [[Z]] {module = "mlp", act = #spz<act silu>, approximate, gate_bias = @mlp.approximation.bias, gate = @mlp.approximation.gate, up = @mlp.approximation.up} : tensor<1x64xf32> -> tensor<1x96xf32>
// SPARSE-NEXT: [[LIST:%.*]] = spz.select [[A]] {module = "mlp", threshold = 5.000000e-01 : f64, magnitude, scales = @down.norms, density = 2.500000e-01 : f64
// SPARSE-NEXT: spz.sparse_mlp %x, [[LIST]] {module = "mlp", gate = @gate, up = @up, down = @down, act = #spz<act silu>, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64} : tensor<1x64xf32>, tensor<1x96xi1> -> tensor<1x64xf32>

// CHECK: exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = i8, shape = array<i64: 96, 64, 64>
// CHECK-NEXT: exec.storage @mlp.approximation.basis.rows {layout = #exec<layout rows>, element = i8, shape = array<i64: 64, 64>
// CHECK-NEXT: exec.storage @mlp.approximation.gate.rows {layout = #exec<layout rows>, element = i4, shape = array<i64: 192, 64>, of = [@mlp.approximation.gate, @mlp.approximation.up]}
// CHECK-LABEL: exec.program @decode
// CHECK: exec.quantize %x into [[X:%.*]] {module = "mlp"
// CHECK: exec.linear [[X]], @mlp.approximation.basis.rows into [[BASIS:%.*]] {module = "mlp", part = #exec<part predictors>
// CHECK: exec.quantize [[BASIS]] into [[Z:%.*]] {module = "mlp"
// CHECK: exec.neurons [[Z]], @mlp.approximation.gate.rows into [[A:%.*]] {module = "mlp", gate_bias = @mlp.approximation.bias.floats, gated, act = #spz<act silu>, work = #exec.work<split, [0, 48, 96]>}
// CHECK: exec.barrier
// CHECK-NEXT: exec.select [[A]] into [[LIST:%.*]] {module = "mlp", threshold = 5.000000e-01 : f64, magnitude, density = 2.500000e-01 : f64, scales = @down.norms.floats, part = #exec<part predictors>, work = #exec.work<each>}
// CHECK: exec.sparse_mlp [[X]], @mlp.neurons of [[LIST]] : memref<1x97xf32> into [[PARTS:%.*]] {module = "mlp", act = #spz<act silu>, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64, gated, work = #exec.work<list>}
// CHECK: exec.barrier
// CHECK-NEXT: exec.sum [[PARTS]]
