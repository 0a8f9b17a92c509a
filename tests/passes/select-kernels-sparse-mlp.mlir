// RUN: sparsecomp-opt %s -p fuse-sparse-mlp,choose-layouts,select-kernels,fuse-residual,schedule-workers | filecheck %s

// A prediction is two small linears; each worker makes the list for itself and takes its share of
// it. Exact values are shared out by neurons and known after. All read the storage that the prompt
// reads. Two workers.
aten.weight @table : tensor<16x8xf32>
aten.weight @gate : tensor<40x8xf32>
aten.weight @up : tensor<40x8xf32>
aten.weight @down : tensor<8x40xf32>
aten.weight @gate_bias : tensor<40xf32>
aten.weight @up_bias : tensor<40xf32>
aten.weight @p.down : tensor<4x8xf32>
aten.weight @p.up : tensor<40x4xf32>
aten.weight @p.bias : tensor<40xf32>
aten.weight @norms : tensor<40xf32>
func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32> {
  %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x8xf32>
  %1 = spz.last %0 : tensor<?x8xf32> -> tensor<1x8xf32>
  %2 = spz.gated_mlp %1, @gate, @up, @down {module = "mlp", act = #spz<act silu>, gate_bias = @gate_bias, up_bias = @up_bias} : tensor<1x8xf32> -> tensor<1x8xf32>
  %3 = spz.lm_head %2, @table : tensor<1x8xf32> -> tensor<1x16xf32>
  func.return %3 : tensor<1x16xf32>
}
func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32> {
  %x = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x8xf32>
  %0 = spz.predict %x, @p.down, @p.up, @p.bias {module = "mlp", lookahead = 0 : i64} : tensor<1x8xf32> -> tensor<1x40xf32>
  %1 = spz.select %0 {module = "mlp", count = 2 : i64, group = 8 : i64, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64} : tensor<1x40xf32> -> tensor<1x40xi1>
  %2 = spz.gated_mlp %x, @gate, @up, @down keeping %1 : tensor<1x40xi1> {module = "mlp", act = #spz<act silu>, gate_bias = @gate_bias, up_bias = @up_bias} : tensor<1x8xf32> -> tensor<1x8xf32>
  %3 = aten.add.Tensor(%x, %2) : (tensor<1x8xf32>, tensor<1x8xf32>) -> tensor<1x8xf32>
  %4 = spz.neurons %3 {gate = @gate, gate_bias = @gate_bias, act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x40xf32>
  %5 = spz.select %4 {threshold = 1.000000e-01 : f64, magnitude, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x40xf32> -> tensor<1x40xi1>
  %6 = spz.gated_mlp %3, @gate, @up, @down keeping %5 : tensor<1x40xi1> {act = #spz<act silu>, gate_bias = @gate_bias, up_bias = @up_bias} : tensor<1x8xf32> -> tensor<1x8xf32>
  %7 = spz.neurons %6 {gate = @gate, up = @up, act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x40xf32>
  %8 = spz.select %7 {threshold = 1.000000e-01 : f64, magnitude, scales = @norms, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x40xf32> -> tensor<1x40xi1>
  %9 = spz.gated_mlp %6, @gate, @up, @down keeping %8 : tensor<1x40xi1> {act = #spz<act silu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  %10 = spz.lm_head %9, @table : tensor<1x8xf32> -> tensor<1x16xf32>
  func.return %10 : tensor<1x16xf32>
}

// CHECK:      exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 8>, of = [@table]}
// CHECK-NEXT: exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 40, 8, 8>, of = [@gate, @up, @down]}
// CHECK-NEXT: exec.storage @gate_bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 40>, of = [@gate_bias]}
// CHECK-NEXT: exec.storage @up_bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 40>, of = [@up_bias]}
// CHECK-NEXT: exec.storage @p.down.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 4, 8>, of = [@p.down]}
// CHECK-NEXT: exec.storage @p.up.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 40, 4>, of = [@p.up]}
// CHECK-NEXT: exec.storage @p.bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 40>, of = [@p.bias]}
// CHECK-NEXT: exec.storage @norms.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 40>, of = [@norms]}
// CHECK-LABEL: exec.program @prefill attributes {tile = 64 : i64, workers = 2 : i64} {
// CHECK-NEXT:   %0 = exec.buffer {space = #exec<space private>} : memref<?x8xf32>
// CHECK-NEXT:   exec.embed @table.rows into %0 {index = #exec<index tokens>, work = #exec.work<rows>} : memref<?x8xf32>
// CHECK-NEXT:   %1 = exec.buffer {space = #exec<space shared>} : memref<1x8xf32>
// CHECK-NEXT:   exec.last %0 into %1 {work = #exec.work<one, [1]>} : memref<?x8xf32>, memref<1x8xf32>
// CHECK-NEXT:   %2 = exec.buffer {space = #exec<space parts>} : memref<1x8xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.mlp %1, @mlp.neurons into %2 {module = "mlp", gate_bias = @gate_bias.floats, up_bias = @up_bias.floats, gated, act = #spz<act silu>, work = #exec.work<split, [0, 20, 40]>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:   %3 = exec.buffer {space = #exec<space private>} : memref<1x8xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.sum %2 into %3 {module = "mlp", work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:   %4 = exec.buffer {space = #exec<space output>} : memref<1x16xf32>
// CHECK-NEXT:   exec.linear %3, @table.rows into %4 {part = #exec<part head>, work = #exec.work<split, [0, 0, 16]>} : memref<1x8xf32>, memref<1x16xf32>
// CHECK-NEXT: }
// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
// CHECK-NEXT:   %x = exec.buffer {space = #exec<space private>} : memref<1x8xf32>
// CHECK-NEXT:   exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x8xf32>
// CHECK-NEXT:   %0 = exec.buffer {space = #exec<space private>} : memref<1x4xf32>
// CHECK-NEXT:   exec.linear %x, @p.down.rows into %0 {module = "mlp", part = #exec<part predictors>, work = #exec.work<each>} : memref<1x8xf32>, memref<1x4xf32>
// CHECK-NEXT:   %1 = exec.buffer {space = #exec<space private>} : memref<1x40xf32>
// CHECK-NEXT:   exec.linear %0, @p.up.rows into %1 {module = "mlp", bias = @p.bias.floats, part = #exec<part predictors>, work = #exec.work<each>} : memref<1x4xf32>, memref<1x40xf32>
// CHECK-NEXT:   %2 = exec.buffer {space = #exec<space private>} : memref<1x41xf32>
// CHECK-NEXT:   exec.select %1 into %2 {module = "mlp", count = 2 : i64, group = 8 : i64, density = 2.500000e-01 : f64, part = #exec<part predictors>, work = #exec.work<each>} : memref<1x40xf32>, memref<1x41xf32>
// CHECK-NEXT:   %3 = exec.buffer {space = #exec<space parts>} : memref<1x8xf32>
// CHECK-NEXT:   exec.sparse_mlp %x, @mlp.neurons of %2 : memref<1x41xf32> into %3 {module = "mlp", act = #spz<act silu>, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64, gated, gate_bias = @gate_bias.floats, up_bias = @up_bias.floats, work = #exec.work<list>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:   %4 = exec.buffer {space = #exec<space private>} : memref<1x8xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.sum %3 plus %x : memref<1x8xf32> into %4 {module = "mlp", work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:   %5 = exec.buffer {space = #exec<space shared>} : memref<1x40xf32>
// CHECK-NEXT:   exec.neurons %4, @mlp.neurons into %5 {gate_bias = @gate_bias.floats, gated, gate_only, act = #spz<act silu>, work = #exec.work<split, [0, 16, 40]>} : memref<1x8xf32>, memref<1x40xf32>
// CHECK-NEXT:   %6 = exec.buffer {space = #exec<space private>} : memref<1x41xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.select %5 into %6 {threshold = 1.000000e-01 : f64, magnitude, density = 5.000000e-01 : f64, part = #exec<part mlp>, work = #exec.work<each>} : memref<1x40xf32>, memref<1x41xf32>
// CHECK-NEXT:   %7 = exec.buffer {space = #exec<space parts>} : memref<1x8xf32>
// CHECK-NEXT:   exec.sparse_mlp %4, @mlp.neurons of %6 : memref<1x41xf32> knowing %5 : memref<1x40xf32> into %7 {gate_known, act = #spz<act silu>, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64, gated, up_bias = @up_bias.floats, work = #exec.work<list>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:   %8 = exec.buffer {space = #exec<space private>} : memref<1x8xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.sum %7 into %8 {work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:   %9 = exec.buffer {space = #exec<space shared>} : memref<1x40xf32>
// CHECK-NEXT:   exec.neurons %8, @mlp.neurons into %9 {gated, act = #spz<act silu>, work = #exec.work<split, [0, 16, 40]>} : memref<1x8xf32>, memref<1x40xf32>
// CHECK-NEXT:   %10 = exec.buffer {space = #exec<space private>} : memref<1x41xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.select %9 into %10 {threshold = 1.000000e-01 : f64, magnitude, density = 5.000000e-01 : f64, scales = @norms.floats, part = #exec<part mlp>, work = #exec.work<each>} : memref<1x40xf32>, memref<1x41xf32>
// CHECK-NEXT:   %11 = exec.buffer {space = #exec<space parts>} : memref<1x8xf32>
// CHECK-NEXT:   exec.sparse_mlp %8, @mlp.neurons of %10 : memref<1x41xf32> knowing %9 : memref<1x40xf32> into %11 {act = #spz<act silu>, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64, gated, work = #exec.work<list>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:   %12 = exec.buffer {space = #exec<space private>} : memref<1x8xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.sum %11 into %12 {work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:   %13 = exec.buffer {space = #exec<space output>} : memref<1x16xf32>
// CHECK-NEXT:   exec.linear %12, @table.rows into %13 {part = #exec<part head>, work = #exec.work<split, [0, 0, 16]>} : memref<1x8xf32>, memref<1x16xf32>
// CHECK-NEXT: }
