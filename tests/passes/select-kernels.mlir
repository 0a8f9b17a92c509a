// RUN: sparsecomp-opt %s -p choose-layouts,select-kernels | filecheck %s

// One token's attention and MLP leave parts, which a second kernel combines; a prompt's do not,
// but for the sum. Moves become views, the rest maps; the result is the caller's.
aten.weight @table : tensor<16x8xf32>
aten.weight @norm.weight : tensor<8xf32>
aten.weight @q.weight : tensor<8x8xf32>
aten.weight @q.bias : tensor<8xf32>
aten.weight @up : tensor<12x8xf32>
aten.weight @down : tensor<8x12xf32>
aten.weight @down_bias : tensor<8xf32>
aten.weight @cos : tensor<64x4xf32>
aten.weight @sin : tensor<64x4xf32>
aten.weight @sinks : tensor<2xf32>
func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32> {
  %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x8xf32>
  %1 = spz.rms_norm %0, @norm.weight {module = "norm", eps = 1.000000e-05 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
  %2 = spz.linear %1, @q.weight, @q.bias {module = "q"} : tensor<?x8xf32> -> tensor<?x8xf32>
  %q = aten.reshape(%2, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
  %rope = spz.rope %q, %positions, @cos, @sin {rotary = 4 : i64, pairing = #spz<pairing half>} : tensor<?x2x4xf32>, tensor<?xi64> -> tensor<?x2x4xf32>
  %attention = spz.cached_attention %rope, %rope, %q, %positions, %cache {module = "attention", scale = 5.000000e-01 : f64, window = 8 : i64, sinks = @sinks, slot = 0 : i64} : tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?xi64> -> tensor<?x2x4xf32>
  %last = spz.last %attention : tensor<?x2x4xf32> -> tensor<1x2x4xf32>
  %3 = aten.reshape(%last, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
  %logits = spz.lm_head %3, @table {module = "lm_head"} : tensor<1x8xf32> -> tensor<1x16xf32>
  func.return %logits : tensor<1x16xf32>
}
func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32> {
  %0 = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x8xf32>
  %1 = spz.rms_norm %0, @norm.weight {module = "norm", eps = 1.000000e-05 : f64} : tensor<1x8xf32> -> tensor<1x8xf32>
  %2 = spz.linear %1, @q.weight, @q.bias {module = "q"} : tensor<1x8xf32> -> tensor<1x8xf32>
  %q = aten.reshape(%2, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
  %rope = spz.rope %q, %positions, @cos, @sin {rotary = 4 : i64, pairing = #spz<pairing half>} : tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
  %attention = spz.cached_attention %rope, %rope, %q, %positions, %cache {module = "attention", scale = 5.000000e-01 : f64, window = 8 : i64, sinks = @sinks, slot = 0 : i64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
  %3 = aten.reshape(%attention, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
  %4 = spz.mlp %3, @up, @down {module = "mlp", act = #spz<act relu>, down_bias = @down_bias} : tensor<1x8xf32> -> tensor<1x8xf32>
  %5 = aten.add.Tensor(%0, %4) : (tensor<1x8xf32>, tensor<1x8xf32>) -> tensor<1x8xf32> {module = "block"}
  %logits = spz.lm_head %5, @table {module = "lm_head"} : tensor<1x8xf32> -> tensor<1x16xf32>
  func.return %logits : tensor<1x16xf32>
}

// CHECK:      exec.kv_slot 0 : i64 {groups = 2 : i64, key = 4 : i64, value = 4 : i64, window = 8 : i64}
// CHECK-LABEL: exec.program @prefill attributes {tile = 64 : i64} {
// CHECK-NEXT:    %0 = exec.buffer : memref<?x8xf32>
// CHECK-NEXT:    exec.embed @table.rows into %0 {index = #exec<index tokens>} : memref<?x8xf32>
// CHECK-NEXT:    %1 = exec.buffer : memref<?x8xf32>
// CHECK-NEXT:    exec.norm %0 into %1 {module = "norm", kind = #exec<norm_kind rms>, weight = @norm.weight.floats, eps = 1.000000e-05 : f64} : memref<?x8xf32>, memref<?x8xf32>
// CHECK-NEXT:    %2 = exec.buffer : memref<?x8xf32>
// CHECK-NEXT:    exec.linear %1, @q.weight.rows into %2 {module = "q", bias = @q.bias.floats, part = #exec<part attention>} : memref<?x8xf32>, memref<?x8xf32>
// CHECK-NEXT:    %3 = exec.view %2 {start = 0 : i64, strides = array<i64: 4, 1>} : memref<?x8xf32> -> memref<?x2x4xf32>
// CHECK-NEXT:    %rope = exec.buffer : memref<?x2x4xf32>
// CHECK-NEXT:    exec.rope %3 into %rope {rotary = 4 : i64, pairing = #spz<pairing half>, cos = @cos.floats, sin = @sin.floats} : memref<?x2x4xf32>, memref<?x2x4xf32>
// CHECK-NEXT:    exec.append %rope, %3 to 0 : i64 {module = "attention"} : memref<?x2x4xf32>, memref<?x2x4xf32>
// CHECK-NEXT:    %attention = exec.buffer : memref<?x2x4xf32>
// CHECK-NEXT:    exec.attend %rope from 0 : i64 into %attention {module = "attention", scale = 5.000000e-01 : f64, window = 8 : i64, sinks = @sinks.floats} : memref<?x2x4xf32>, memref<?x2x4xf32>
// CHECK-NEXT:    %last = exec.buffer : memref<1x2x4xf32>
// CHECK-NEXT:    exec.last %attention into %last : memref<?x2x4xf32>, memref<1x2x4xf32>
// CHECK-NEXT:    %4 = exec.view %last {start = 0 : i64, strides = array<i64: 1>} : memref<1x2x4xf32> -> memref<1x8xf32>
// CHECK-NEXT:    %logits = exec.buffer {space = #exec<space output>} : memref<1x16xf32>
// CHECK-NEXT:    exec.linear %4, @table.rows into %logits {module = "lm_head", part = #exec<part head>} : memref<1x8xf32>, memref<1x16xf32>
// CHECK-NEXT:    }
// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64} {
// CHECK-NEXT:    %0 = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.embed @table.rows into %0 {index = #exec<index tokens>} : memref<1x8xf32>
// CHECK-NEXT:    %1 = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.norm %0 into %1 {module = "norm", kind = #exec<norm_kind rms>, weight = @norm.weight.floats, eps = 1.000000e-05 : f64} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %2 = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.linear %1, @q.weight.rows into %2 {module = "q", bias = @q.bias.floats, part = #exec<part attention>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %3 = exec.view %2 {start = 0 : i64, strides = array<i64: 4, 1>} : memref<1x8xf32> -> memref<1x2x4xf32>
// CHECK-NEXT:    %rope = exec.buffer : memref<1x2x4xf32>
// CHECK-NEXT:    exec.rope %3 into %rope {rotary = 4 : i64, pairing = #spz<pairing half>, cos = @cos.floats, sin = @sin.floats} : memref<1x2x4xf32>, memref<1x2x4xf32>
// CHECK-NEXT:    exec.append %rope, %3 to 0 : i64 {module = "attention"} : memref<1x2x4xf32>, memref<1x2x4xf32>
// CHECK-NEXT:    %4 = exec.buffer : memref<1x2x32xf32>
// CHECK-NEXT:    exec.attend %rope from 0 : i64 into %4 {module = "attention", scale = 5.000000e-01 : f64, window = 8 : i64} : memref<1x2x4xf32>, memref<1x2x32xf32>
// CHECK-NEXT:    %attention = exec.buffer : memref<1x2x4xf32>
// CHECK-NEXT:    exec.combine %4 into %attention {module = "attention", sinks = @sinks.floats} : memref<1x2x32xf32>, memref<1x2x4xf32>
// CHECK-NEXT:    %5 = exec.view %attention {start = 0 : i64, strides = array<i64: 1>} : memref<1x2x4xf32> -> memref<1x8xf32>
// CHECK-NEXT:    %6 = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.mlp %5, @mlp.neurons into %6 {module = "mlp", act = #spz<act relu>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %7 = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.sum %6 into %7 {module = "mlp", bias = @down_bias.floats} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %8 = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.map(%0, %7) into %8 : memref<1x8xf32>, memref<1x8xf32> into memref<1x8xf32> attributes {module = "block"} {
// CHECK-NEXT:    ^bb0(%9: tensor<f32>, %10: tensor<f32>):
// CHECK-NEXT:    %11 = aten.add.Tensor(%9, %10) : (tensor<f32>, tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    exec.yield %11 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %logits = exec.buffer {space = #exec<space output>} : memref<1x16xf32>
// CHECK-NEXT:    exec.linear %8, @table.rows into %logits {module = "lm_head", part = #exec<part head>} : memref<1x8xf32>, memref<1x16xf32>
// CHECK-NEXT:    }
