// RUN: sparsecomp-opt %s -p plan-memory | filecheck %s

// Weights lie one behind the other at cache lines. Buffers share bytes when they do not live at the
// same time: one that others read lives until the barrier after.
exec.storage @table.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 10, 7>, of = [@table]}
exec.storage @bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@bias]}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = bf16, shape = array<i64: 16, 8, 8>, of = [@up, @down]}
exec.storage @other.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@other]}
exec.program @prefill attributes {tile = 3 : i64, workers = 2 : i64} {
  // Each worker has room for three rows: 96 bytes, rounded up to cache lines.
  %x = exec.buffer {space = #exec<space private>} : memref<?x8xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<rows>} : memref<?x8xf32>
  %last = exec.buffer {space = #exec<space shared>} : memref<1x8xf32>
  exec.last %x into %last {work = #exec.work<one, [1]>} : memref<?x8xf32>, memref<1x8xf32>
}
exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
  %a = exec.buffer {space = #exec<space private>} : memref<1x16xf32>
  exec.embed @table.rows into %a {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x16xf32>
  %b = exec.buffer {space = #exec<space private>} : memref<1x32xf32>
  exec.norm %a into %b {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64, work = #exec.work<each>} : memref<1x16xf32>, memref<1x32xf32>
  // The bytes of %a are free again, for this worker alone had them.
  %c = exec.buffer {space = #exec<space parts>} : memref<1x16xf32>
  exec.mlp %b, @mlp.neurons into %c {act = #spz<act relu>, work = #exec.work<split, [0, 8, 16]>} : memref<1x32xf32>, memref<1x16xf32>
  exec.barrier
  %d = exec.buffer {space = #exec<space private>} : memref<1x16xf32>
  exec.sum %c into %d {work = #exec.work<each>} : memref<1x16xf32>, memref<1x16xf32>
  // Those of %c are not, for another worker may still be summing.
  %e = exec.buffer {space = #exec<space private>} : memref<1x32xf32>
  exec.norm %d into %e {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64, work = #exec.work<each>} : memref<1x16xf32>, memref<1x32xf32>
  %f = exec.buffer {space = #exec<space shared>} : memref<1x16xf32>
  exec.linear %e, @table.rows into %f {part = #exec<part other>, work = #exec.work<split, [0, 16, 16]>} : memref<1x32xf32>, memref<1x16xf32>
  exec.barrier
  %g = exec.buffer {space = #exec<space shared>} : memref<1x16xf32>
  exec.linear %f, @table.rows into %g {part = #exec<part other>, work = #exec.work<split, [0, 16, 16]>} : memref<1x16xf32>, memref<1x16xf32>
  exec.barrier
  // Here every worker is done with %f and %c.
  %h = exec.buffer {space = #exec<space shared>} : memref<1x16xf32>
  exec.linear %g, @table.rows into %h {part = #exec<part other>, work = #exec.work<split, [0, 16, 16]>} : memref<1x16xf32>, memref<1x16xf32>
}

// CHECK:      exec.storage @table.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 10, 7>, of = [@table], offset = 0 : i64}
// CHECK-NEXT: exec.storage @bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@bias], offset = 192 : i64}
// CHECK-NEXT: exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = bf16, shape = array<i64: 16, 8, 8>, of = [@up, @down], offset = 256 : i64}
// CHECK-NEXT: exec.storage @other.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@other], offset = 2304 : i64}
// CHECK-LABEL: exec.program @prefill attributes {tile = 3 : i64, workers = 2 : i64, shared = 64 : i64, private = 128 : i64} {
// CHECK-NEXT:    %x = exec.buffer {space = #exec<space private>, offset = 0 : i64} : memref<?x8xf32>
// CHECK-NEXT:    exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<rows>} : memref<?x8xf32>
// CHECK-NEXT:    %last = exec.buffer {space = #exec<space shared>, offset = 0 : i64} : memref<1x8xf32>
// CHECK-NEXT:    exec.last %x into %last {work = #exec.work<one, [1]>} : memref<?x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    }
// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64, shared = 128 : i64, private = 256 : i64} {
// CHECK-NEXT:    %a = exec.buffer {space = #exec<space private>, offset = 0 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.embed @table.rows into %a {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x16xf32>
// CHECK-NEXT:    %b = exec.buffer {space = #exec<space private>, offset = 64 : i64} : memref<1x32xf32>
// CHECK-NEXT:    exec.norm %a into %b {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64, work = #exec.work<each>} : memref<1x16xf32>, memref<1x32xf32>
// CHECK-NEXT:    %c = exec.buffer {space = #exec<space parts>, offset = 0 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.mlp %b, @mlp.neurons into %c {act = #spz<act relu>, work = #exec.work<split, [0, 8, 16]>} : memref<1x32xf32>, memref<1x16xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    %d = exec.buffer {space = #exec<space private>, offset = 64 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.sum %c into %d {work = #exec.work<each>} : memref<1x16xf32>, memref<1x16xf32>
// CHECK-NEXT:    %e = exec.buffer {space = #exec<space private>, offset = 128 : i64} : memref<1x32xf32>
// CHECK-NEXT:    exec.norm %d into %e {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64, work = #exec.work<each>} : memref<1x16xf32>, memref<1x32xf32>
// CHECK-NEXT:    %f = exec.buffer {space = #exec<space shared>, offset = 0 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.linear %e, @table.rows into %f {part = #exec<part other>, work = #exec.work<split, [0, 16, 16]>} : memref<1x32xf32>, memref<1x16xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    %g = exec.buffer {space = #exec<space shared>, offset = 64 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.linear %f, @table.rows into %g {part = #exec<part other>, work = #exec.work<split, [0, 16, 16]>} : memref<1x16xf32>, memref<1x16xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    %h = exec.buffer {space = #exec<space shared>, offset = 0 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.linear %g, @table.rows into %h {part = #exec<part other>, work = #exec.work<split, [0, 16, 16]>} : memref<1x16xf32>, memref<1x16xf32>
// CHECK-NEXT:    }
