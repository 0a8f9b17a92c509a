// RUN: sparsecomp-opt %s --verify-roundtrip | filecheck %s
// CHECK: builtin.module
func.func @rows(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %experts: tensor<?x2xi64>, %chosen: tensor<?x2x8xf32>) -> tensor<1x16xf32> {
  %0 = spz.embed %ids, @table {module = "embed"} : tensor<?xi64> -> tensor<?x8xf32>
  %1 = spz.rms_norm %0, @scale {eps = 5.000000e-01 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
  %2 = spz.rms_norm %1 {eps = 5.000000e-01 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
  %3 = spz.layer_norm %2 {weight = @scale, bias = @shift, eps = 5.000000e-01 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
  %4 = spz.layer_norm %3 {eps = 5.000000e-01 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
  %5 = spz.linear %4, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %6 = spz.linear %5, @w, @b : tensor<?x8xf32> -> tensor<?x8xf32>
  %7 = aten.reshape(%6, shape = [s, 4, 2]) : (tensor<?x8xf32>) -> tensor<?x4x2xf32>
  %8 = spz.rope %7, %positions, @cos, @sin {rotary = 2 : i64, pairing = #spz<pairing half>} : tensor<?x4x2xf32>, tensor<?xi64> -> tensor<?x4x2xf32>
  %9 = spz.rope %8, %positions, @cos, @sin {rotary = 2 : i64, pairing = #spz<pairing interleaved>} : tensor<?x4x2xf32>, tensor<?xi64> -> tensor<?x4x2xf32>
  %10 = aten.slice.Tensor(%9, dim = 1, start = 0, end = 2) : (tensor<?x4x2xf32>) -> tensor<?x2x2xf32>
  %11 = spz.attention %9, %10, %10 {scale = 5.000000e-01 : f64, window = 8 : i64, chunk = 16 : i64, softcap = 3.000000e+01 : f64, slopes = @slopes, sinks = @sinks} : tensor<?x4x2xf32>, tensor<?x2x2xf32>, tensor<?x2x2xf32> -> tensor<?x4x2xf32>
  %12 = aten.reshape(%11, shape = [s, 8]) : (tensor<?x4x2xf32>) -> tensor<?x8xf32>
  %13 = spz.mlp %12, @up, @down {act = #spz<act relu>, up_bias = @u, down_bias = @d} : tensor<?x8xf32> -> tensor<?x8xf32>
  %14 = spz.gated_mlp %13, @gate, @up, @down {act = #spz<act quick_gelu>, gate_bias = @g, up_bias = @u, down_bias = @d} : tensor<?x8xf32> -> tensor<?x8xf32>
  %15 = spz.expert_linear %chosen, %experts, @experts, @biases : tensor<?x2x8xf32>, tensor<?x2xi64> -> tensor<?x2x4xf32>
  %16 = spz.last %14 : tensor<?x8xf32> -> tensor<1x8xf32>
  %17 = spz.lm_head %16, @table, @b {module = "lm_head"} : tensor<1x8xf32> -> tensor<1x16xf32>
  func.return %17 : tensor<1x16xf32>
}
func.func @sparse(%x: tensor<1x8xf32>, %q: tensor<1x4x2xf32>, %k: tensor<1x2x2xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x8xf32> {
  %0 = spz.predict %x, @p.down, @p.up, @p.bias {lookahead = 1 : i64} : tensor<1x8xf32> -> tensor<1x16xf32>
  %1 = spz.select %0 {threshold = 5.000000e-01 : f64, density = 2.000000e-01 : f64, active = 1.000000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
  %2 = spz.mlp %x, @up, @down keeping %1 : tensor<1x16xi1> {sparsity = #spz.sparsity<cutoff, of = neuron, threshold = 0.0, density = 0.25>, act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  %3 = spz.neurons %2 {up = @up, up_bias = @u, act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x16xf32>
  %4 = spz.select %3 {count = 2 : i64, group = 8 : i64, magnitude, scales = @norms, density = 2.500000e-01 : f64, active = 1.000000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
  %5 = spz.sparse_mlp %2, %4 knowing %3 : tensor<1x16xf32> {up = @up, down = @down, act = #spz<act relu>, density = 2.500000e-01 : f64, active = 1.000000e-01 : f64} : tensor<1x8xf32>, tensor<1x16xi1> -> tensor<1x8xf32>
  %6 = spz.predict %5, @h.down, @h.up, @h.bias {lookahead = 0 : i64} : tensor<1x8xf32> -> tensor<1x4xf32>
  %likely = spz.select %3 {count = 2 : i64, group = 16 : i64, probability = 1.000000e-02 : f64, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64} : tensor<1x16xf32> -> tensor<1x16xi1>
  %7 = spz.select %6 {threshold = -5.000000e-01 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x4xf32> -> tensor<1x4xi1>
  %sketched = spz.sketch %5, @q, @b {bits = 1 : i64} : tensor<1x8xf32> -> tensor<1x4xf32>
  %refined = spz.refine %sketched, %7, %5, @q {offset = 2.500000e-01 : f64, density = 5.000000e-01 : f64} : tensor<1x4xf32>, tensor<1x4xi1>, tensor<1x8xf32> -> tensor<1x4xf32>
  %logits = spz.sparse_head %5, %7, %refined, @o, @b {offset = 1.250000e-01 : f64, density = 5.000000e-01 : f64} : tensor<1x8xf32>, tensor<1x4xi1>, tensor<1x4xf32> -> tensor<1x4xf32>
  %8 = spz.sparse_linear %5, %7, @q {side = #spz<side outputs>, density = 5.000000e-01 : f64} : tensor<1x8xf32>, tensor<1x4xi1> -> tensor<1x8xf32>
  %9 = spz.cached_attention %q, %k, %k, %positions, %cache keeping %7 : tensor<1x4xi1> {sparsity = #spz.sparsity<low_rank, rank = 2, density = 0.5, active = 0.5, threshold = -0.5, count = 0, group = 0, lookahead = 0>, slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<1x4x2xf32>, tensor<1x2x2xf32>, tensor<1x2x2xf32>, tensor<1xi64> -> tensor<1x4x2xf32>
  %10 = aten.reshape(%9, shape = [1, 8]) : (tensor<1x4x2xf32>) -> tensor<1x8xf32>
  %11 = spz.sparse_linear %10, %7, @o, @b {side = #spz<side inputs>, density = 5.000000e-01 : f64} : tensor<1x8xf32>, tensor<1x4xi1> -> tensor<1x8xf32>
  %12 = spz.all_reduce %11 : tensor<1x8xf32> {module = "o"} -> tensor<1x8xf32>
  %13 = spz.all_reduce -> tensor<1x8xf32>
  func.return %12 : tensor<1x8xf32>
}
func.func @cached(%q: tensor<1x4x2xf32>, %k: tensor<1x2x2xf32>, %v: tensor<1x2x3xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x4x3xf32> {
  %0 = spz.cached_attention %q, %k, %v, %positions, %cache {slot = 1 : i64, scale = 5.000000e-01 : f64, window = 8 : i64, chunk = 16 : i64, softcap = 3.000000e+01 : f64, slopes = @slopes, sinks = @sinks} : tensor<1x4x2xf32>, tensor<1x2x2xf32>, tensor<1x2x3xf32>, tensor<1xi64> -> tensor<1x4x3xf32>
  func.return %0 : tensor<1x4x3xf32>
}
