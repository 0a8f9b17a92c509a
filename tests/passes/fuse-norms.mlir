// RUN: sparsecomp-opt %s --device cuda -p fuse-norms | filecheck %s

exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 40, 16>, of = [@table]}
exec.storage @weight.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 16>, of = [@weight]}
exec.storage @norm.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 16>, of = [@norm]}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 16, 16, 16>, of = [@up, @down]}
exec.program @prefill attributes {tile = 64 : i64} {
  // Many rows: each would be normed by every program that reads it.
  %x = exec.buffer : memref<?x16xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<?x16xf32>
  %many = exec.buffer : memref<?x16xf32>
  exec.norm %x into %many {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<?x16xf32>, memref<?x16xf32>
  %y = exec.buffer : memref<?x16xf32>
  exec.linear %many, @weight.rows into %y {part = #exec<part other>} : memref<?x16xf32>, memref<?x16xf32>
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x16xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<1x16xf32>
  %row = exec.buffer : memref<1x16xf32>
  exec.norm %x into %row {kind = #exec<norm_kind layer>, weight = @norm.floats, eps = 1.000000e-05 : f64} : memref<1x16xf32>, memref<1x16xf32>
  %q = exec.buffer : memref<1x16xf32>
  %k = exec.buffer : memref<1x16xf32>
  exec.launch {
    exec.linear %row, @weight.rows into %q {part = #exec<part attention>} : memref<1x16xf32>, memref<1x16xf32>
    exec.linear %row, @weight.rows into %k {part = #exec<part attention>} : memref<1x16xf32>, memref<1x16xf32>
  }
  %parts = exec.buffer : memref<1x16xf32>
  exec.mlp %row, @mlp.neurons into %parts {act = #spz<act relu>} : memref<1x16xf32>, memref<1x16xf32>
  // Of each head.
  %heads = exec.view %q {start = 0 : i64, strides = array<i64: 8, 1>} : memref<1x16xf32> -> memref<1x2x8xf32>
  %normed = exec.buffer : memref<1x2x8xf32>
  exec.norm %heads into %normed {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x2x8xf32>, memref<1x2x8xf32>
  // What was normed is added, too.
  %post = exec.buffer : memref<1x16xf32>
  exec.norm %k into %post {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x16xf32>, memref<1x16xf32>
  %added = exec.buffer : memref<1x16xf32>
  exec.linear %post, @weight.rows plus %post : memref<1x16xf32> into %added {part = #exec<part other>} : memref<1x16xf32>, memref<1x16xf32>
  // Four would norm it.
  %often = exec.buffer : memref<1x16xf32>
  exec.norm %added into %often {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x16xf32>, memref<1x16xf32>
  %a = exec.buffer : memref<1x16xf32>
  exec.linear %often, @weight.rows into %a {part = #exec<part other>} : memref<1x16xf32>, memref<1x16xf32>
  %b = exec.buffer : memref<1x16xf32>
  exec.linear %often, @weight.rows into %b {part = #exec<part other>} : memref<1x16xf32>, memref<1x16xf32>
  %c = exec.buffer : memref<1x16xf32>
  exec.linear %often, @weight.rows into %c {part = #exec<part other>} : memref<1x16xf32>, memref<1x16xf32>
  %d = exec.buffer : memref<1x16xf32>
  exec.linear %often, @weight.rows into %d {part = #exec<part other>} : memref<1x16xf32>, memref<1x16xf32>
}

// CHECK-LABEL: exec.program @prefill
// CHECK-NOT:     exec.launch
// CHECK-LABEL: exec.program @decode
// CHECK:         exec.embed @table.rows into %x
// CHECK-NEXT:    %q = exec.buffer
// CHECK-NEXT:    %k = exec.buffer
// CHECK-NEXT:    exec.launch {
// CHECK-NEXT:      %row = exec.buffer
// CHECK-NEXT:      exec.norm %x into %row {kind = #exec<norm_kind layer>, weight = @norm.floats, eps = 1.000000e-05 : f64}
// CHECK-NEXT:      exec.linear %row, @weight.rows into %q
// CHECK-NEXT:      exec.linear %row, @weight.rows into %k
// CHECK-NEXT:    }
// CHECK-NEXT:    %parts = exec.buffer
// CHECK-NEXT:    exec.launch {
// CHECK-NEXT:      %row_1 = exec.buffer
// CHECK-NEXT:      exec.norm %x into %row_1 {kind = #exec<norm_kind layer>, weight = @norm.floats, eps = 1.000000e-05 : f64}
// CHECK-NEXT:      exec.mlp %row_1, @mlp.neurons into %parts
// CHECK-NEXT:    }
// CHECK:         exec.norm %heads into %normed
// CHECK:         exec.norm %k into %post
// CHECK-NEXT:    %added = exec.buffer
// CHECK-NEXT:    exec.linear %post, @weight.rows plus %post
// CHECK:         exec.norm %added into %often
// CHECK-NOT:     exec.launch
