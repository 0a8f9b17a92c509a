// RUN: sparsecomp-opt %s --dtype int8 -p insert-predictors,fuse-sparse-mlp,quantize-weights,choose-layouts,select-kernels,fuse-residual,schedule-workers | filecheck %s

// Coarse values of all neurons by the high planes, corrected by a product with rows in 4 bits; two
// lists; one kernel for both. The input is quantised once. Two workers.
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
  %0 = spz.gated_mlp %x, @gate, @up, @down {module = "mlp", sparsity = #spz.sparsity<nested, threshold = 0.5, floor = 0.125, density = 0.25, coarse = 0.5, rank = 16>, act = #spz<act silu>} : tensor<1x64xf32> -> tensor<1x64xf32>
  %1 = spz.lm_head %0, @table : tensor<1x64xf32> -> tensor<1x16xf32>
  func.return %1 : tensor<1x16xf32>
}

// CHECK: exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = i8, shape = array<i64: 96, 64, 64>
// CHECK-NEXT: exec.storage @mlp.correction.basis.rows {layout = #exec<layout rows>, element = i8, shape = array<i64: 16, 64>
// CHECK-NEXT: exec.storage @mlp.correction.factors.rows {layout = #exec<layout rows>, element = i4, shape = array<i64: 192, 16>
// CHECK-NEXT: exec.storage @down.norms.floats
// CHECK-LABEL: exec.program @decode
// CHECK: exec.quantize %x into [[X:%.*]] {module = "mlp", work = #exec.work<each>}
// CHECK: exec.linear [[X]], @mlp.correction.basis.rows into [[BASIS:%.*]] {module = "mlp", part = #exec<part predictors>
// CHECK: exec.quantize [[BASIS]] into [[Z:%.*]] {module = "mlp"
// CHECK: exec.neurons [[X]], @mlp.neurons corrected by [[Z]] : memref<1x64xf32> into [[A:%.*]] {module = "mlp", correction = @mlp.correction.factors.rows, coarse, gated, act = #spz<act silu>, work = #exec.work<split, [0, 48, 96]>}
// CHECK: exec.barrier
// CHECK-NEXT: exec.select [[A]] into [[FINE:%.*]] {module = "mlp", threshold = 5.000000e-01 : f64, magnitude, density = 2.500000e-01 : f64, scales = @down.norms.floats, part = #exec<part mlp>, work = #exec.work<each>}
// CHECK: exec.select [[A]] into [[REST:%.*]] {module = "mlp", threshold = 1.250000e-01 : f64, below = 5.000000e-01 : f64, magnitude, density = 5.000000e-01 : f64
// CHECK: exec.sparse_mlp [[X]], @mlp.neurons of [[FINE]] : memref<1x97xf32> and [[REST]] of [[A]] : memref<1x97xf32>, memref<1x96xf32> into [[PARTS:%.*]] {module = "mlp", act = #spz<act silu>, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64, rest_density = 5.000000e-01 : f64, gated, work = #exec.work<list>}
// CHECK: exec.barrier
// CHECK-NEXT: exec.sum [[PARTS]]
