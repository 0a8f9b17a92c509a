// RUN: sparsecomp-opt %s -p schedule-streams,plan-memory | filecheck %s

// The selection %list reads %x, as the first MLP does: stream 1 predicts it meanwhile. The second
// selection has nothing to hide behind, and stays on the main stream. What a kernel leaves in
// parts has room for them; bytes are used again only where all that used them is known to be done,
// those of lists not at all.
exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 40, 16>, of = [@table]}
exec.storage @rank.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 4, 16>, of = [@rank]}
exec.storage @score.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 4>, of = [@score]}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 16, 16, 16>, of = [@up, @down]}
exec.kv_slot 0 : i64 {groups = 2 : i64, key = 8 : i64, value = 8 : i64}
exec.program @prefill attributes {tile = 64 : i64} {
  %x = exec.buffer : memref<?x2x8xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<?x2x8xf32>
  exec.append %x, %x to 0 : i64 : memref<?x2x8xf32>, memref<?x2x8xf32>
  %last = exec.buffer : memref<1x2x8xf32>
  exec.last %x into %last : memref<?x2x8xf32>, memref<1x2x8xf32>
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x16xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<1x16xf32>
  %rank = exec.buffer : memref<1x4xf32>
  exec.linear %x, @rank.rows into %rank {part = #exec<part predictors>} : memref<1x16xf32>, memref<1x4xf32>
  %scores = exec.buffer : memref<1x16xf32>
  exec.linear %rank, @score.rows into %scores {part = #exec<part predictors>} : memref<1x4xf32>, memref<1x16xf32>
  %list = exec.buffer : memref<1x17xf32>
  exec.select %scores into %list {threshold = 0.0 : f64, density = 0.5 : f64, part = #exec<part predictors>} : memref<1x16xf32>, memref<1x17xf32>
  %parts = exec.buffer : memref<1x16xf32>
  exec.mlp %x, @mlp.neurons into %parts {act = #spz<act relu>} : memref<1x16xf32>, memref<1x16xf32>
  %first = exec.buffer : memref<1x16xf32>
  exec.sum %parts plus %x : memref<1x16xf32> into %first : memref<1x16xf32>, memref<1x16xf32>
  %sparse = exec.buffer : memref<1x16xf32>
  exec.sparse_mlp %first, @mlp.neurons of %list : memref<1x17xf32> into %sparse {act = #spz<act relu>, density = 0.5 : f64, active = 0.5 : f64} : memref<1x16xf32>, memref<1x16xf32>
  %second = exec.buffer : memref<1x16xf32>
  exec.sum %sparse plus %first : memref<1x16xf32> into %second : memref<1x16xf32>, memref<1x16xf32>
  %again = exec.buffer : memref<1x17xf32>
  exec.select %second into %again {threshold = 0.0 : f64, density = 0.5 : f64, part = #exec<part predictors>} : memref<1x16xf32>, memref<1x17xf32>
  %end = exec.buffer : memref<1x16xf32>
  exec.sparse_mlp %second, @mlp.neurons of %again : memref<1x17xf32> into %end {act = #spz<act relu>, density = 0.5 : f64, active = 0.5 : f64} : memref<1x16xf32>, memref<1x16xf32>
  %logits = exec.buffer {space = #exec<space output>} : memref<1x16xf32>
  exec.sum %end into %logits : memref<1x16xf32>, memref<1x16xf32>
}

// CHECK-LABEL: exec.program @prefill attributes {tile = 64 : i64, streams = 1 : i64, shared = 4160 : i64, private = 0 : i64} {
// CHECK-NEXT:    %x = exec.buffer {space = #exec<space shared>, offset = 0 : i64} : memref<?x2x8xf32>
// CHECK-NEXT:    exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<stream, [0]>} : memref<?x2x8xf32>
// CHECK-NEXT:    exec.append %x, %x to 0 : i64 {work = #exec.work<stream, [0]>} : memref<?x2x8xf32>, memref<?x2x8xf32>
// CHECK-NEXT:    exec.logits_only
// CHECK-NEXT:    %last = exec.buffer {space = #exec<space shared>, offset = 4096 : i64} : memref<1x2x8xf32>
// CHECK-NEXT:    exec.last %x into %last {work = #exec.work<stream, [0]>} : memref<?x2x8xf32>, memref<1x2x8xf32>
// CHECK-NEXT:  }
// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64, streams = 2 : i64, shared = 896 : i64, private = 0 : i64} {
// CHECK-NEXT:    %x = exec.buffer {space = #exec<space shared>, offset = 0 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<stream, [0]>} : memref<1x16xf32>
// CHECK-NEXT:    exec.record 0 : i64 {stream = 0 : i64}
// CHECK-NEXT:    %rank = exec.buffer {space = #exec<space shared>, offset = 64 : i64} : memref<1x4xf32>
// CHECK-NEXT:    exec.wait 0 : i64 {stream = 1 : i64}
// CHECK-NEXT:    exec.linear %x, @rank.rows into %rank {part = #exec<part predictors>, work = #exec.work<stream, [1]>} : memref<1x16xf32>, memref<1x4xf32>
// CHECK-NEXT:    %parts = exec.buffer {space = #exec<space parts>, copies = 4 : i64, offset = 128 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.mlp %x, @mlp.neurons into %parts {act = #spz<act relu>, work = #exec.work<stream, [0]>} : memref<1x16xf32>, memref<1x16xf32>
// CHECK-NEXT:    %scores = exec.buffer {space = #exec<space shared>, offset = 384 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.linear %rank, @score.rows into %scores {part = #exec<part predictors>, work = #exec.work<stream, [1]>} : memref<1x4xf32>, memref<1x16xf32>
// CHECK-NEXT:    %first = exec.buffer {space = #exec<space shared>, offset = 448 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.sum %parts plus %x : memref<1x16xf32> into %first {work = #exec.work<stream, [0]>} : memref<1x16xf32>, memref<1x16xf32>
// CHECK-NEXT:    %list = exec.buffer {space = #exec<space shared>, offset = 512 : i64} : memref<1x17xf32>
// CHECK-NEXT:    exec.select %scores into %list {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, part = #exec<part predictors>, work = #exec.work<stream, [1]>} : memref<1x16xf32>, memref<1x17xf32>
// CHECK-NEXT:    exec.record 1 : i64 {stream = 1 : i64}
// CHECK-NEXT:    %sparse = exec.buffer {space = #exec<space parts>, copies = 4 : i64, offset = 0 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.wait 1 : i64 {stream = 0 : i64}
// CHECK-NEXT:    exec.sparse_mlp %first, @mlp.neurons of %list : memref<1x17xf32> into %sparse {act = #spz<act relu>, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64, work = #exec.work<stream, [0]>} : memref<1x16xf32>, memref<1x16xf32>
// CHECK-NEXT:    %second = exec.buffer {space = #exec<space shared>, offset = 256 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.sum %sparse plus %first : memref<1x16xf32> into %second {work = #exec.work<stream, [0]>} : memref<1x16xf32>, memref<1x16xf32>
// CHECK-NEXT:    %again = exec.buffer {space = #exec<space shared>, offset = 0 : i64} : memref<1x17xf32>
// CHECK-NEXT:    exec.select %second into %again {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, part = #exec<part predictors>, work = #exec.work<stream, [0]>} : memref<1x16xf32>, memref<1x17xf32>
// CHECK-NEXT:    %end = exec.buffer {space = #exec<space parts>, copies = 4 : i64, offset = 640 : i64} : memref<1x16xf32>
// CHECK-NEXT:    exec.sparse_mlp %second, @mlp.neurons of %again : memref<1x17xf32> into %end {act = #spz<act relu>, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64, work = #exec.work<stream, [0]>} : memref<1x16xf32>, memref<1x16xf32>
// CHECK-NEXT:    %logits = exec.buffer {space = #exec<space output>} : memref<1x16xf32>
// CHECK-NEXT:    exec.sum %end into %logits {work = #exec.work<stream, [0]>} : memref<1x16xf32>, memref<1x16xf32>
// CHECK-NEXT:  }
