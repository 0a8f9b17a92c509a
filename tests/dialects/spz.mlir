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
func.func @cached(%q: tensor<1x4x2xf32>, %k: tensor<1x2x2xf32>, %v: tensor<1x2x3xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x4x3xf32> {
  %0 = spz.cached_attention %q, %k, %v, %positions, %cache {slot = 1 : i64, scale = 5.000000e-01 : f64, window = 8 : i64, chunk = 16 : i64, softcap = 3.000000e+01 : f64, slopes = @slopes, sinks = @sinks} : tensor<1x4x2xf32>, tensor<1x2x2xf32>, tensor<1x2x3xf32>, tensor<1xi64> -> tensor<1x4x3xf32>
  func.return %0 : tensor<1x4x3xf32>
}
