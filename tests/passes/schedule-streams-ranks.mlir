// RUN: sparsecomp-opt %s -p schedule-streams | filecheck %s

// Sums over ranks stay in their order, for it must be that of all ranks: the second one, to which
// this rank gives nothing, waits for nothing else. Nothing runs on another stream meanwhile, and a
// prompt is computed to its end, as others may need a sum in what only logits need.
exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 40, 16>, of = [@table]}
exec.storage @own.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 16>, of = [@own]}
exec.storage @score.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 16>, of = [@score]}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 16, 16, 16>, of = [@up, @down]}
exec.kv_slot 0 : i64 {groups = 2 : i64, key = 8 : i64, value = 8 : i64}
exec.program @prefill attributes {tile = 64 : i64} {
  %x = exec.buffer : memref<?x2x8xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<?x2x8xf32>
  exec.append %x, %x to 0 : i64 : memref<?x2x8xf32>, memref<?x2x8xf32>
  %last = exec.buffer : memref<1x2x8xf32>
  exec.last %x into %last : memref<?x2x8xf32>, memref<1x2x8xf32>
  %sum = exec.buffer : memref<1x2x8xf32>
  exec.all_reduce %last : memref<1x2x8xf32> into %sum : memref<1x2x8xf32>
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x16xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<1x16xf32>
  %scores = exec.buffer : memref<1x16xf32>
  exec.linear %x, @score.rows into %scores {part = #exec<part predictors>} : memref<1x16xf32>, memref<1x16xf32>
  %list = exec.buffer : memref<1x17xf32>
  exec.select %scores into %list {threshold = 0.0 : f64, density = 0.5 : f64, part = #exec<part predictors>} : memref<1x16xf32>, memref<1x17xf32>
  %own = exec.buffer : memref<1x16xf32>
  exec.linear %x, @own.rows into %own {part = #exec<part attention>} : memref<1x16xf32>, memref<1x16xf32>
  %first = exec.buffer : memref<1x16xf32>
  exec.all_reduce %own : memref<1x16xf32> into %first : memref<1x16xf32>
  %second = exec.buffer : memref<1x16xf32>
  exec.all_reduce into %second : memref<1x16xf32>
  %both = exec.buffer : memref<1x16xf32>
  exec.sum %first plus %second : memref<1x16xf32> into %both : memref<1x16xf32>, memref<1x16xf32>
  %sparse = exec.buffer : memref<1x16xf32>
  exec.sparse_mlp %both, @mlp.neurons of %list : memref<1x17xf32> into %sparse {act = #spz<act relu>, density = 0.5 : f64, active = 0.5 : f64} : memref<1x16xf32>, memref<1x16xf32>
  %logits = exec.buffer {space = #exec<space output>} : memref<1x16xf32>
  exec.sum %sparse into %logits : memref<1x16xf32>, memref<1x16xf32>
}

// CHECK-LABEL: exec.program @prefill attributes {tile = 64 : i64, streams = 1 : i64} {
// CHECK-NOT:     exec.logits_only
// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64, streams = 1 : i64} {
// CHECK-NOT:     stream, [1]
// CHECK:         exec.all_reduce %own : memref<1x16xf32> into %first {work = #exec.work<stream, [0]>} : memref<1x16xf32>
// CHECK:         exec.all_reduce into %second {work = #exec.work<stream, [0]>} : memref<1x16xf32>
// CHECK-NEXT:    %both = exec.buffer
// CHECK-NOT:     stream, [1]
// CHECK:         exec.sum %sparse into %logits
