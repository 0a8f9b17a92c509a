// RUN: sparsecomp-opt %s --verify-roundtrip | filecheck %s
// CHECK: builtin.module
exec.storage @table.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 16, 8>, of = [@table], offset = 0 : i64}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 16, 8, 8>, of = [@gate, @up, @down], offset = 256 : i64}
exec.storage @scale.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@scale]}
exec.kv_slot 0 : i64 {groups = 2 : i64, key = 4 : i64, value = 4 : i64, window = 8 : i64}
exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64, shared = 4096 : i64, private = 64 : i64} {
  %0 = exec.buffer {space = #exec<space shared>, offset = 0 : i64} : memref<1x8xf32>
  exec.embed @table.rows into %0 {module = "embed", index = #exec<index tokens>, work = #exec.work<each>} : memref<1x8xf32>
  %1 = exec.buffer : memref<1x1xf32>
  exec.ids %1 {index = #exec<index positions>, work = #exec.work<one, [0]>} : memref<1x1xf32>
  exec.norm %0 into %0 {kind = #exec<norm_kind layer>, weight = @scale.floats, bias = @scale.floats, eps = 5.000000e-01 : f64, work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
  exec.quantize %0 into %0 {work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
  exec.linear %0, @table.rows into %0 {bias = @scale.floats, part = #exec<part attention>, work = #exec.work<split, [0, 8, 16]>} : memref<1x8xf32>, memref<1x8xf32>
  exec.linear %0, @table.rows plus %0 : memref<1x8xf32> into %0 {part = #exec<part attention>} : memref<1x8xf32>, memref<1x8xf32>
  exec.barrier
  %2 = exec.view %0 {start = 0 : i64, strides = array<i64: 4, 1>} : memref<1x8xf32> -> memref<1x2x4xf32>
  exec.rope %2 into %2 {cos = @scale.floats, sin = @scale.floats, rotary = 4 : i64, pairing = #spz<pairing half>, work = #exec.work<each>} : memref<1x2x4xf32>, memref<1x2x4xf32>
  exec.append %2, %2 to 0 : i64 {work = #exec.work<one, [1]>} : memref<1x2x4xf32>, memref<1x2x4xf32>
  exec.append %2, %2 to 0 : i64 {cos = @scale.floats, sin = @scale.floats, rotary = 4 : i64, pairing = #spz<pairing half>} : memref<1x2x4xf32>, memref<1x2x4xf32>
  %3 = exec.buffer {space = #exec<space parts>, offset = 64 : i64} : memref<1x2x6xf32>
  exec.attend %2 from 0 : i64 into %3 {scale = 5.000000e-01 : f64, window = 8 : i64, chunk = 16 : i64, softcap = 3.000000e+01 : f64, slopes = @scale.floats, sinks = @scale.floats, work = #exec.work<context>} : memref<1x2x4xf32>, memref<1x2x6xf32>
  exec.combine %3 into %2 {sinks = @scale.floats, work = #exec.work<each>} : memref<1x2x6xf32>, memref<1x2x4xf32>
  exec.activate %0 times %0 : memref<1x8xf32> into %0 {act = #spz<act silu>, work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
  exec.launch attributes {work = #exec.work<stream, [0]>} {
    %inner = exec.buffer : memref<1x8xf32>
    exec.norm %0 into %inner {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x8xf32>, memref<1x8xf32>
    exec.activate %inner into %0 {act = #spz<act relu>} : memref<1x8xf32>, memref<1x8xf32>
  }
  exec.mlp %0, @mlp.neurons into %0 {gate_bias = @scale.floats, up_bias = @scale.floats, gated, act = #spz<act silu>, work = #exec.work<split, [0, 8, 16]>} : memref<1x8xf32>, memref<1x8xf32>
  exec.select %0 into %0 {threshold = 0.000000e+00 : f64, magnitude, scales = @scale.floats, or_all, density = 5.000000e-01 : f64, part = #exec<part mlp>, work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
  exec.neurons %0, @mlp.neurons into %0 {gate_bias = @scale.floats, gated, gate_only, act = #spz<act silu>, work = #exec.work<split, [0, 8, 16]>} : memref<1x8xf32>, memref<1x8xf32>
  exec.sparse_mlp %0, @mlp.neurons of %0 : memref<1x8xf32> knowing %0 : memref<1x8xf32> into %0 {gated, gate_known, act = #spz<act silu>, density = 5.000000e-01 : f64, active = 2.500000e-01 : f64, work = #exec.work<list>} : memref<1x8xf32>, memref<1x8xf32>
  exec.sparse_linear %0, @table.rows of %0 : memref<1x8xf32> into %0 {side = #spz<side inputs>, blocks = 4 : i64, density = 5.000000e-01 : f64, part = #exec<part attention>, work = #exec.work<split, [0, 2, 4]>} : memref<1x8xf32>, memref<1x8xf32>
  exec.sketch %0, @table.rows into %0 {work = #exec.work<split, [0, 8, 16]>} : memref<1x8xf32>, memref<1x8xf32>
  exec.refine %0, @table.rows of %0 by %0 : memref<1x8xf32>, memref<1x8xf32> into %0 {offset = 2.500000e-01 : f64, density = 5.000000e-01 : f64, work = #exec.work<list>} : memref<1x8xf32>, memref<1x8xf32>
  exec.sparse_head %0, @table.rows of %0 : memref<1x8xf32> else %0 : memref<1x8xf32> into %0 {bias = @scale.floats, offset = 1.250000e-01 : f64, density = 5.000000e-01 : f64, work = #exec.work<list>} : memref<1x8xf32>, memref<1x8xf32>
  exec.sum %0 into %0 {bias = @scale.floats, work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
  exec.all_reduce %0 : memref<1x8xf32> into %0 {work = #exec.work<one, [0]>} : memref<1x8xf32>
  exec.all_reduce into %0 : memref<1x8xf32>
  %4 = exec.constant @scale.floats : memref<8xf32>
  exec.map(%0, %4) into %0 : memref<1x8xf32>, memref<8xf32> into memref<1x8xf32> attributes {work = #exec.work<each>} {
  ^bb0(%5: tensor<f32>, %6: tensor<f32>):
    %7 = aten.add.Tensor(%5, %6) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    exec.yield %7 : tensor<f32>
  }
  %8 = exec.buffer : memref<1x2x2xf32>
  exec.top_k %0 into %8 {work = #exec.work<each>} : memref<1x8xf32>, memref<1x2x2xf32>
  exec.reduce %2 into %8 {fold = #exec<fold max>, work = #exec.work<each>} : memref<1x2x4xf32>, memref<1x2x2xf32>
  exec.gather %2, %8 into %2 {work = #exec.work<each>} : memref<1x2x4xf32>, memref<1x2x2xf32>, memref<1x2x4xf32>
  exec.scatter %2, %8 into %2 {value = -1.000000e+00 : f64, work = #exec.work<each>} : memref<1x2x4xf32>, memref<1x2x2xf32>, memref<1x2x4xf32>
  exec.expert_linear %2, %8, @table.rows into %2 {bias = @scale.floats, work = #exec.work<split, [0, 4, 8]>} : memref<1x2x4xf32>, memref<1x2x2xf32>, memref<1x2x4xf32>
  exec.record 0 : i64 {stream = 1 : i64}
  exec.wait 0 : i64 {stream = 0 : i64}
  exec.logits_only
  exec.last %0 into %0 {work = #exec.work<rows>} : memref<1x8xf32>, memref<1x8xf32>
}
