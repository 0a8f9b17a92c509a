// RUN: sparsecomp-opt %s -p insert-predictors | filecheck %s
// Each choice becomes what chooses the units; the block keeps them. A lookahead of 1 reads the input
// of the MLP before; the first one reads its own.
aten.weight @q : tensor<8x8xf32>
aten.weight @k : tensor<8x8xf32>
aten.weight @o : tensor<8x8xf32>
aten.weight @up : tensor<16x8xf32>
aten.weight @gate : tensor<16x8xf32>
aten.weight @down : tensor<8x16xf32>
// CHECK: aten.weight @attn.predictor.down : tensor<2x8xf32>
// CHECK-NEXT: aten.weight @attn.predictor.up : tensor<4x2xf32>
// CHECK-NEXT: aten.weight @attn.predictor.bias : tensor<4xf32>
// CHECK-NEXT: aten.weight @mlp.1.predictor.down : tensor<3x8xf32>
// CHECK: aten.derived @down.norms : tensor<16xf32> {
// CHECK-NEXT: [[W:%.*]] = aten.get @down
// CHECK-NEXT: [[NORM:%.*]] = aten.linalg_vector_norm([[W]], dim = [0])
func.func @decode(%x: tensor<1x8xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x8xf32> {
  // CHECK: func.func @decode([[X:%.*]]: tensor<1x8xf32>, %positions
  // CHECK: [[SCORES:%.*]] = spz.predict [[X]], @attn.predictor.down, @attn.predictor.up, @attn.predictor.bias {module = "attn", lookahead = 0 : i64} : tensor<1x8xf32> -> tensor<1x4xf32>
  // CHECK-NEXT: [[HEADS:%.*]] = spz.select [[SCORES]] {module = "attn", threshold = -5.000000e-01 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x4xf32> -> tensor<1x4xi1>
  %0 = spz.linear %x, @q {module = "attn.q"} : tensor<1x8xf32> -> tensor<1x8xf32>
  %1 = spz.linear %x, @k {module = "attn.k"} : tensor<1x8xf32> -> tensor<1x8xf32>
  %2 = aten.reshape(%0, shape = [1, 4, 2]) : (tensor<1x8xf32>) -> tensor<1x4x2xf32>
  %3 = aten.reshape(%1, shape = [1, 4, 2]) : (tensor<1x8xf32>) -> tensor<1x4x2xf32>
  // CHECK: spz.cached_attention {{.*}} keeping [[HEADS]] : tensor<1x4xi1> {module = "attn", slot
  %4 = spz.cached_attention %2, %3, %3, %positions, %cache {module = "attn", sparsity = #spz.sparsity<low_rank, rank = 2, density = 0.5, active = 0.5, threshold = -0.5>, slot = 0 : i64, scale = 1.0 : f64} : tensor<1x4x2xf32>, tensor<1x4x2xf32>, tensor<1x4x2xf32>, tensor<1xi64> -> tensor<1x4x2xf32>
  %5 = aten.reshape(%4, shape = [1, 8]) : (tensor<1x4x2xf32>) -> tensor<1x8xf32>
  // CHECK: [[H:%.*]] = spz.linear {{.*}}, @o
  %6 = spz.linear %5, @o {module = "attn.o"} : tensor<1x8xf32> -> tensor<1x8xf32>
  // The next MLP's predictor reads the same input.
  // CHECK-NEXT: [[LATER:%.*]] = spz.predict [[H]], @mlp.1.predictor.down, @mlp.1.predictor.up, @mlp.1.predictor.bias {module = "mlp.1", lookahead = 1 : i64}
  // CHECK-NEXT: [[TOP:%.*]] = spz.select [[LATER]] {module = "mlp.1", count = 2 : i64, group = 8 : i64, density = 2.500000e-01 : f64, active = 1.000000e-01 : f64}
  // CHECK-NEXT: [[GATES:%.*]] = spz.neurons [[H]] {module = "mlp.0", gate = @gate, act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x16xf32>
  // CHECK-NEXT: [[KEPT:%.*]] = spz.select [[GATES]] {module = "mlp.0", threshold = 1.000000e-01 : f64, magnitude, density = 7.500000e-01 : f64, active = 7.500000e-01 : f64}
  // CHECK-NEXT: [[M:%.*]] = spz.gated_mlp [[H]], @gate, @up, @down keeping [[KEPT]] : tensor<1x16xi1> {module = "mlp.0", act = #spz<act silu>}
  %7 = spz.gated_mlp %6, @gate, @up, @down {module = "mlp.0", sparsity = #spz.sparsity<cutoff, of = gate, threshold = 0.1, density = 0.75>, act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  // CHECK: spz.mlp [[M]], @up, @down keeping [[TOP]] : tensor<1x16xi1> {module = "mlp.1", act = #spz<act relu>}
  %8 = spz.mlp %7, @up, @down {module = "mlp.1", sparsity = #spz.sparsity<low_rank, rank = 3, density = 0.25, active = 0.1, count = 2, group = 8, lookahead = 1>, act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  // CHECK: [[VALUES:%.*]] = spz.neurons {{.*}} {module = "mlp.2", up = @up, act = #spz<act relu>}
  // CHECK-NEXT: spz.select [[VALUES]] {module = "mlp.2", threshold = 2.000000e-01 : f64, magnitude, scales = @down.norms
  %9 = spz.mlp %8, @up, @down {module = "mlp.2", sparsity = #spz.sparsity<cutoff, of = neuron, threshold = 0.2, density = 0.3>, act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  func.return %9 : tensor<1x8xf32>
}
