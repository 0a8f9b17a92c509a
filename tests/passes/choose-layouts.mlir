// RUN: sparsecomp-opt %s -p choose-layouts | filecheck %s

// What a linear or the head reads lies row by row, an MLP neuron by neuron, all else is floats in
// order. A weight that two ops read alike is stored once; a table has a row for each position.
aten.weight @table : tensor<16x8xf32>
aten.weight @norm.weight : tensor<8xf32>
aten.weight @q.weight : tensor<8x8xf32>
aten.weight @q.bias : tensor<8xf32>
aten.weight @mlp.gate : tensor<12x8xf32>
aten.weight @mlp.up : tensor<12x8xf32>
aten.weight @mlp.down : tensor<8x12xf32>
aten.weight @mlp.down_bias : tensor<8xf32>
aten.weight @scale : tensor<f32>
aten.derived @cos : tensor<?x4xf32> {
  %0 = aten.arange(end = s) : () -> tensor<?xf32>
  %1 = aten.reshape(%0, shape = [s, 1]) : (tensor<?xf32>) -> tensor<?x1xf32>
  %2 = aten.expand(%1, size = [s, 4]) : (tensor<?x1xf32>) -> tensor<?x4xf32>
  aten.yield %2 : tensor<?x4xf32>
}
func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32> {
  %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x8xf32>
  %1 = spz.last %0 : tensor<?x8xf32> -> tensor<1x8xf32>
  %2 = spz.lm_head %1, @table : tensor<1x8xf32> -> tensor<1x16xf32>
  func.return %2 : tensor<1x16xf32>
}
func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32> {
  %0 = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x8xf32>
  %1 = spz.rms_norm %0, @norm.weight {eps = 1.000000e-05 : f64} : tensor<1x8xf32> -> tensor<1x8xf32>
  %2 = spz.linear %1, @q.weight, @q.bias {module = "q"} : tensor<1x8xf32> -> tensor<1x8xf32>
  %3 = aten.reshape(%2, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
  %4 = spz.rope %3, %positions, @cos, @cos {rotary = 4 : i64, pairing = #spz<pairing half>} : tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
  %5 = aten.reshape(%4, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
  %6 = spz.gated_mlp %5, @mlp.gate, @mlp.up, @mlp.down {module = "mlp", act = #spz<act silu>, down_bias = @mlp.down_bias} : tensor<1x8xf32> -> tensor<1x8xf32>
  %7 = aten.get @scale : tensor<f32>
  %8 = aten.mul.Tensor(%6, %7) : (tensor<1x8xf32>, tensor<f32>) -> tensor<1x8xf32>
  %9 = spz.embed %positions, @cos : tensor<1xi64> -> tensor<1x4xf32>
  %10 = spz.lm_head %8, @table {module = "lm_head"} : tensor<1x8xf32> -> tensor<1x16xf32>
  func.return %10 : tensor<1x16xf32>
}

// CHECK:      exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 8>, of = [@table]}
// CHECK-NEXT: exec.storage @norm.weight.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@norm.weight]}
// CHECK-NEXT: exec.storage @q.weight.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 8, 8>, of = [@q.weight]}
// CHECK-NEXT: exec.storage @q.bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@q.bias]}
// CHECK-NEXT: exec.storage @cos.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 64, 4>, of = [@cos]}
// CHECK-NEXT: exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 12, 8, 8>, of = [@mlp.gate, @mlp.up, @mlp.down]}
// CHECK-NEXT: exec.storage @mlp.down_bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@mlp.down_bias]}
// CHECK-NEXT: exec.storage @scale.floats {layout = #exec<layout floats>, element = f32, shape = array<i64>, of = [@scale]}
