// RUN: sparsecomp-opt %s -p schedule-workers,schedule-lookahead | filecheck %s

// A prediction that is needed later stands beside other work, and has no barrier of its own. Its
// products are done by whoever is free: while waiting, where more than one section may have them.
// The other prediction is needed at once. Two workers.
exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 8, 256>, of = [@table]}
exec.storage @square.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 256, 256>, of = [@square]}
exec.storage @down.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 128, 256>, of = [@down]}
exec.storage @up.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 256, 128>, of = [@up]}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 256, 256, 256>, of = [@fc1, @fc2]}
exec.program @prefill attributes {tile = 64 : i64} {
  %x = exec.buffer : memref<?x256xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<?x256xf32>
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x256xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<1x256xf32>
  %early = exec.buffer : memref<1x128xf32>
  exec.linear %x, @down.rows into %early {part = #exec<part predictors>} : memref<1x256xf32>, memref<1x128xf32>
  %scores = exec.buffer : memref<1x256xf32>
  exec.linear %early, @up.rows into %scores {part = #exec<part predictors>} : memref<1x128xf32>, memref<1x256xf32>
  %list = exec.buffer : memref<1x257xf32>
  exec.select %scores into %list {threshold = 0.000000e+00 : f64, density = 1.000000e-01 : f64, part = #exec<part predictors>} : memref<1x256xf32>, memref<1x257xf32>
  %a = exec.buffer : memref<1x256xf32>
  exec.linear %x, @square.rows into %a {part = #exec<part attention>} : memref<1x256xf32>, memref<1x256xf32>
  %b = exec.buffer : memref<1x256xf32>
  exec.linear %a, @square.rows into %b {part = #exec<part attention>} : memref<1x256xf32>, memref<1x256xf32>
  %c = exec.buffer : memref<1x256xf32>
  exec.linear %b, @square.rows into %c {part = #exec<part attention>} : memref<1x256xf32>, memref<1x256xf32>
  %first = exec.buffer : memref<1x256xf32>
  exec.sparse_mlp %c, @mlp.neurons of %list : memref<1x257xf32> into %first {act = #spz<act relu>, density = 1.000000e-01 : f64, active = 1.000000e-01 : f64} : memref<1x256xf32>, memref<1x256xf32>
  %d = exec.buffer : memref<1x256xf32>
  exec.sum %first into %d : memref<1x256xf32>, memref<1x256xf32>
  %late = exec.buffer : memref<1x128xf32>
  exec.linear %d, @down.rows into %late {part = #exec<part predictors>} : memref<1x256xf32>, memref<1x128xf32>
  %rates = exec.buffer : memref<1x256xf32>
  exec.linear %late, @up.rows into %rates {part = #exec<part predictors>} : memref<1x128xf32>, memref<1x256xf32>
  %chosen = exec.buffer : memref<1x257xf32>
  exec.select %rates into %chosen {threshold = 0.000000e+00 : f64, density = 1.000000e-01 : f64, part = #exec<part predictors>} : memref<1x256xf32>, memref<1x257xf32>
  %second = exec.buffer : memref<1x256xf32>
  exec.sparse_mlp %d, @mlp.neurons of %chosen : memref<1x257xf32> into %second {act = #spz<act relu>, density = 1.000000e-01 : f64, active = 1.000000e-01 : f64} : memref<1x256xf32>, memref<1x256xf32>
}

// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
// CHECK-NEXT:      %x = exec.buffer {space = #exec<space private>} : memref<1x256xf32>
// CHECK-NEXT:      exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x256xf32>
// CHECK-NEXT:      %a = exec.buffer {space = #exec<space shared>} : memref<1x256xf32>
// CHECK-NEXT:      exec.linear %x, @square.rows into %a {part = #exec<part attention>, work = #exec.work<split, [0, 128, 256]>} : memref<1x256xf32>, memref<1x256xf32>
// CHECK-NEXT:      %early = exec.buffer {space = #exec<space shared>} : memref<1x128xf32>
// CHECK-NEXT:      exec.linear %x, @down.rows into %early {part = #exec<part predictors>, work = #exec.work<queue, [32]>} : memref<1x256xf32>, memref<1x128xf32>
// CHECK-NEXT:      exec.barrier
// CHECK-NEXT:      %b = exec.buffer {space = #exec<space shared>} : memref<1x256xf32>
// CHECK-NEXT:      exec.linear %a, @square.rows into %b {part = #exec<part attention>, work = #exec.work<split, [0, 128, 256]>} : memref<1x256xf32>, memref<1x256xf32>
// CHECK-NEXT:      %scores = exec.buffer {space = #exec<space shared>} : memref<1x256xf32>
// CHECK-NEXT:      exec.linear %early, @up.rows into %scores {part = #exec<part predictors>, work = #exec.work<idle, [64]>} : memref<1x128xf32>, memref<1x256xf32>
// CHECK-NEXT:      exec.barrier
// CHECK-NEXT:      %c = exec.buffer {space = #exec<space shared>} : memref<1x256xf32>
// CHECK-NEXT:      exec.linear %b, @square.rows into %c {part = #exec<part attention>, work = #exec.work<split, [0, 128, 256]>} : memref<1x256xf32>, memref<1x256xf32>
// CHECK-NEXT:      exec.linear %early, @up.rows into %scores {part = #exec<part predictors>, work = #exec.work<queue, [64]>} : memref<1x128xf32>, memref<1x256xf32>
// CHECK-NEXT:      exec.barrier
// CHECK-NEXT:      %list = exec.buffer {space = #exec<space private>} : memref<1x257xf32>
// CHECK-NEXT:      exec.select %scores into %list {threshold = 0.000000e+00 : f64, density = 1.000000e-01 : f64, part = #exec<part predictors>, work = #exec.work<each>} : memref<1x256xf32>, memref<1x257xf32>
// CHECK-NEXT:      %first = exec.buffer {space = #exec<space parts>} : memref<1x256xf32>
// CHECK-NEXT:      exec.sparse_mlp %c, @mlp.neurons of %list : memref<1x257xf32> into %first {act = #spz<act relu>, density = 1.000000e-01 : f64, active = 1.000000e-01 : f64, work = #exec.work<list>} : memref<1x256xf32>, memref<1x256xf32>
// CHECK-NEXT:      exec.barrier
// CHECK-NEXT:      %d = exec.buffer {space = #exec<space private>} : memref<1x256xf32>
// CHECK-NEXT:      exec.sum %first into %d {work = #exec.work<each>} : memref<1x256xf32>, memref<1x256xf32>
// CHECK-NEXT:      %late = exec.buffer {space = #exec<space shared>} : memref<1x128xf32>
// CHECK-NEXT:      exec.linear %d, @down.rows into %late {part = #exec<part predictors>, work = #exec.work<split, [0, 64, 128]>} : memref<1x256xf32>, memref<1x128xf32>
// CHECK-NEXT:      exec.barrier
// CHECK-NEXT:      %rates = exec.buffer {space = #exec<space shared>} : memref<1x256xf32>
// CHECK-NEXT:      exec.linear %late, @up.rows into %rates {part = #exec<part predictors>, work = #exec.work<split, [0, 128, 256]>} : memref<1x128xf32>, memref<1x256xf32>
// CHECK-NEXT:      exec.barrier
// CHECK-NEXT:      %chosen = exec.buffer {space = #exec<space private>} : memref<1x257xf32>
// CHECK-NEXT:      exec.select %rates into %chosen {threshold = 0.000000e+00 : f64, density = 1.000000e-01 : f64, part = #exec<part predictors>, work = #exec.work<each>} : memref<1x256xf32>, memref<1x257xf32>
// CHECK-NEXT:      %second = exec.buffer {space = #exec<space parts>} : memref<1x256xf32>
// CHECK-NEXT:      exec.sparse_mlp %d, @mlp.neurons of %chosen : memref<1x257xf32> into %second {act = #spz<act relu>, density = 1.000000e-01 : f64, active = 1.000000e-01 : f64, work = #exec.work<list>} : memref<1x256xf32>, memref<1x256xf32>
// CHECK-NEXT:    }
