// RUN: sparsecomp-opt %s --device cuda -p fuse-selection | filecheck %s

// What only the selection reads is a buffer of its launch, which is no memory.
exec.storage @score.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 4>, of = [@score]}
exec.storage @score.columns {layout = #exec<layout columns>, element = f32, shape = array<i64: 16, 4>, of = [@score]}
exec.storage @many.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 600, 4>, of = [@many]}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = i8, shape = array<i64: 16, 4, 4>, of = [@up, @down]}
exec.storage @norms.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 16>, of = [@norms]}
exec.program @prefill attributes {tile = 64 : i64} {
  exec.barrier
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x4xf32>
  exec.ids %x {index = #exec<index tokens>} : memref<1x4xf32>
  %scores = exec.buffer : memref<1x16xf32>
  exec.linear %x, @score.rows into %scores {part = #exec<part predictors>} : memref<1x4xf32>, memref<1x16xf32>
  %between = exec.buffer : memref<1x4xf32>
  exec.ids %between {index = #exec<index tokens>} : memref<1x4xf32>
  %list = exec.buffer : memref<1x17xf32>
  exec.select %scores into %list {threshold = 0.0 : f64, density = 0.5 : f64, part = #exec<part predictors>} : memref<1x16xf32>, memref<1x17xf32>
  // The neurons that are computed in full and those that count coarsely; their values are read.
  %coarse = exec.buffer : memref<1x16xf32>
  exec.neurons %x, @mlp.neurons into %coarse {act = #spz<act relu>, coarse} : memref<1x4xf32>, memref<1x16xf32>
  %fine = exec.buffer : memref<1x17xf32>
  exec.select %coarse into %fine {threshold = 0.5 : f64, magnitude, scales = @norms.floats, density = 0.25 : f64, part = #exec<part mlp>} : memref<1x16xf32>, memref<1x17xf32>
  %rest = exec.buffer : memref<1x17xf32>
  exec.select %coarse into %rest {threshold = 0.25 : f64, below = 0.5 : f64, magnitude, scales = @norms.floats, density = 0.25 : f64, part = #exec<part mlp>} : memref<1x16xf32>, memref<1x17xf32>
  %parts = exec.buffer : memref<1x4xf32>
  exec.sparse_mlp %x, @mlp.neurons of %fine : memref<1x17xf32> and %rest of %coarse : memref<1x17xf32>, memref<1x16xf32> into %parts {act = #spz<act relu>, density = 0.25 : f64, active = 0.25 : f64, rest_density = 0.25 : f64} : memref<1x4xf32>, memref<1x4xf32>
  // The best of a group that one program scores; in a launch that there is already.
  %best = exec.buffer : memref<1x17xf32>
  %groups = exec.buffer : memref<1x16xf32>
  exec.launch {
    %normed = exec.buffer : memref<1x4xf32>
    exec.norm %x into %normed {kind = #exec<norm_kind rms>, eps = 1.0e-05 : f64} : memref<1x4xf32>, memref<1x4xf32>
    exec.linear %normed, @score.rows into %groups {part = #exec<part predictors>} : memref<1x4xf32>, memref<1x16xf32>
  }
  exec.select %groups into %best {count = 2 : i64, group = 8 : i64, density = 0.25 : f64, part = #exec<part predictors>} : memref<1x16xf32>, memref<1x17xf32>
  // What is left alone: too many units at once, groups that begin anywhere, a weight by columns.
  %all = exec.buffer : memref<1x600xf32>
  exec.linear %x, @many.rows into %all {part = #exec<part predictors>} : memref<1x4xf32>, memref<1x600xf32>
  %of_many = exec.buffer : memref<1x601xf32>
  exec.select %all into %of_many {count = 2 : i64, group = 512 : i64, density = 0.01 : f64, part = #exec<part predictors>} : memref<1x600xf32>, memref<1x601xf32>
  %of_few = exec.buffer : memref<1x601xf32>
  exec.select %all into %of_few {count = 2 : i64, group = 20 : i64, density = 0.1 : f64, part = #exec<part predictors>} : memref<1x600xf32>, memref<1x601xf32>
  %other = exec.buffer : memref<1x16xf32>
  exec.linear %x, @score.columns into %other {part = #exec<part attention>} : memref<1x4xf32>, memref<1x16xf32>
  %by_columns = exec.buffer : memref<1x17xf32>
  exec.select %other into %by_columns {threshold = 0.0 : f64, density = 0.5 : f64, part = #exec<part predictors>} : memref<1x16xf32>, memref<1x17xf32>
}
// CHECK-LABEL: exec.program @decode
// CHECK-NEXT:    %x = exec.buffer : memref<1x4xf32>
// CHECK-NEXT:    exec.ids %x {index = #exec<index tokens>} : memref<1x4xf32>
// CHECK-NEXT:    %list = exec.buffer : memref<1x17xf32>
// CHECK-NEXT:    exec.launch {
// CHECK-NEXT:      %scores = exec.buffer : memref<1x16xf32>
// CHECK-NEXT:      exec.linear %x, @score.rows into %scores {part = #exec<part predictors>} : memref<1x4xf32>, memref<1x16xf32>
// CHECK-NEXT:      exec.select %scores into %list {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, part = #exec<part predictors>} : memref<1x16xf32>, memref<1x17xf32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %between = exec.buffer : memref<1x4xf32>
// CHECK-NEXT:    exec.ids %between {index = #exec<index tokens>} : memref<1x4xf32>
// CHECK-NEXT:    %coarse = exec.buffer : memref<1x16xf32>
// CHECK-NEXT:    %fine = exec.buffer : memref<1x17xf32>
// CHECK-NEXT:    %rest = exec.buffer : memref<1x17xf32>
// CHECK-NEXT:    exec.launch {
// CHECK-NEXT:      exec.neurons %x, @mlp.neurons into %coarse {act = #spz<act relu>, coarse} : memref<1x4xf32>, memref<1x16xf32>
// CHECK-NEXT:      exec.select %coarse into %fine {threshold = 5.000000e-01 : f64, magnitude, scales = @norms.floats, density = 2.500000e-01 : f64, part = #exec<part mlp>} : memref<1x16xf32>, memref<1x17xf32>
// CHECK-NEXT:      exec.select %coarse into %rest {threshold = 2.500000e-01 : f64, below = 5.000000e-01 : f64, magnitude, scales = @norms.floats, density = 2.500000e-01 : f64, part = #exec<part mlp>} : memref<1x16xf32>, memref<1x17xf32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %parts = exec.buffer : memref<1x4xf32>
// CHECK-NEXT:    exec.sparse_mlp %x, @mlp.neurons of %fine : memref<1x17xf32> and %rest of %coarse : memref<1x17xf32>, memref<1x16xf32> into %parts {act = #spz<act relu>, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64, rest_density = 2.500000e-01 : f64} : memref<1x4xf32>, memref<1x4xf32>
// CHECK-NEXT:    %best = exec.buffer : memref<1x17xf32>
// CHECK-NEXT:    exec.launch {
// CHECK-NEXT:      %normed = exec.buffer : memref<1x4xf32>
// CHECK-NEXT:      exec.norm %x into %normed {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x4xf32>, memref<1x4xf32>
// CHECK-NEXT:      %groups = exec.buffer : memref<1x16xf32>
// CHECK-NEXT:      exec.linear %normed, @score.rows into %groups {part = #exec<part predictors>} : memref<1x4xf32>, memref<1x16xf32>
// CHECK-NEXT:      exec.select %groups into %best {count = 2 : i64, group = 8 : i64, density = 2.500000e-01 : f64, part = #exec<part predictors>} : memref<1x16xf32>, memref<1x17xf32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %all = exec.buffer : memref<1x600xf32>
// CHECK-NEXT:    exec.linear %x, @many.rows into %all {part = #exec<part predictors>} : memref<1x4xf32>, memref<1x600xf32>
// CHECK-NEXT:    %of_many = exec.buffer : memref<1x601xf32>
// CHECK-NEXT:    exec.select %all into %of_many {count = 2 : i64, group = 512 : i64, density = 1.000000e-02 : f64, part = #exec<part predictors>} : memref<1x600xf32>, memref<1x601xf32>
// CHECK-NEXT:    %of_few = exec.buffer : memref<1x601xf32>
// CHECK-NEXT:    exec.select %all into %of_few {count = 2 : i64, group = 20 : i64, density = 1.000000e-01 : f64, part = #exec<part predictors>} : memref<1x600xf32>, memref<1x601xf32>
// CHECK-NEXT:    %other = exec.buffer : memref<1x16xf32>
// CHECK-NEXT:    exec.linear %x, @score.columns into %other {part = #exec<part attention>} : memref<1x4xf32>, memref<1x16xf32>
// CHECK-NEXT:    %by_columns = exec.buffer : memref<1x17xf32>
// CHECK-NEXT:    exec.select %other into %by_columns {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, part = #exec<part predictors>} : memref<1x16xf32>, memref<1x17xf32>
