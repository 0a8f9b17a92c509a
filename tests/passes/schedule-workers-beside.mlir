// RUN: sparsecomp-opt %s -p schedule-workers | filecheck %s

// Linears that stand side by side and read the same are shared out as one matrix, by bytes: of two
// workers one takes most queries, the other the rest of them, keys, and values, which are wider. The
// second begins two matrices more, so it gets less: by bytes alone the bound would be 1072. A small
// one between them each does whole, and one that reads something else is by itself.
exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 40, 64>, of = [@table]}
exec.storage @q.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 1280, 64>, of = [@q]}
exec.storage @k.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 288, 64>, of = [@k]}
exec.storage @small.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 8, 64>, of = [@small]}
exec.storage @v.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 280, 64>, of = [@v]}
exec.storage @o.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 40, 1280>, of = [@o]}
exec.program @prefill attributes {tile = 64 : i64} {
  %x = exec.buffer : memref<?x64xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<?x64xf32>
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x64xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<1x64xf32>
  %q = exec.buffer : memref<1x1280xf32>
  exec.linear %x, @q.rows into %q {part = #exec<part attention>} : memref<1x64xf32>, memref<1x1280xf32>
  %k = exec.buffer : memref<1x288xf32>
  exec.linear %x, @k.rows into %k {part = #exec<part attention>} : memref<1x64xf32>, memref<1x288xf32>
  %small = exec.buffer : memref<1x8xf32>
  exec.linear %x, @small.rows into %small {part = #exec<part attention>} : memref<1x64xf32>, memref<1x8xf32>
  %v = exec.buffer : memref<1x280xf32>
  exec.linear %x, @v.rows into %v {part = #exec<part attention>} : memref<1x64xf32>, memref<1x280xf32>
  %o = exec.buffer : memref<1x40xf32>
  exec.linear %q, @o.rows into %o {part = #exec<part attention>} : memref<1x1280xf32>, memref<1x40xf32>
}
// CHECK:       exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
// CHECK-NEXT:    %x = exec.buffer {space = #exec<space private>} : memref<1x64xf32>
// CHECK-NEXT:    exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x64xf32>
// CHECK-NEXT:    %q = exec.buffer {space = #exec<space shared>} : memref<1x1280xf32>
// CHECK-NEXT:    exec.linear %x, @q.rows into %q {part = #exec<part attention>, work = #exec.work<split, [0, 1216, 1280]>} : memref<1x64xf32>, memref<1x1280xf32>
// CHECK-NEXT:    %k = exec.buffer {space = #exec<space shared>} : memref<1x288xf32>
// CHECK-NEXT:    exec.linear %x, @k.rows into %k {part = #exec<part attention>, work = #exec.work<split, [0, 0, 288]>} : memref<1x64xf32>, memref<1x288xf32>
// CHECK-NEXT:    %small = exec.buffer {space = #exec<space private>} : memref<1x8xf32>
// CHECK-NEXT:    exec.linear %x, @small.rows into %small {part = #exec<part attention>, work = #exec.work<each>} : memref<1x64xf32>, memref<1x8xf32>
// CHECK-NEXT:    %v = exec.buffer {space = #exec<space shared>} : memref<1x280xf32>
// CHECK-NEXT:    exec.linear %x, @v.rows into %v {part = #exec<part attention>, work = #exec.work<split, [0, 0, 280]>} : memref<1x64xf32>, memref<1x280xf32>
// CHECK-NEXT:    %o = exec.buffer {space = #exec<space shared>} : memref<1x40xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.linear %q, @o.rows into %o {part = #exec<part attention>, work = #exec.work<split, [0, 16, 40]>} : memref<1x1280xf32>, memref<1x40xf32>
// CHECK-NEXT:  }
