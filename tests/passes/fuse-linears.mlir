// RUN: sparsecomp-opt %s --device cuda -p fuse-linears | filecheck %s

exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 40, 16>, of = [@table]}
exec.storage @q.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 16>, of = [@q]}
exec.storage @k.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 8, 16>, of = [@k]}
exec.storage @o.columns {layout = #exec<layout columns>, element = f32, shape = array<i64: 16, 16>, of = [@o]}
exec.storage @each.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 4, 8>, of = [@each]}
exec.storage @rank.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 4, 16>, of = [@rank]}
exec.storage @score.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 2, 4>, of = [@score]}
exec.program @prefill attributes {tile = 64 : i64} {
  %x = exec.buffer : memref<?x16xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<?x16xf32>
  %q = exec.buffer : memref<?x16xf32>
  exec.linear %x, @q.rows into %q {part = #exec<part attention>} : memref<?x16xf32>, memref<?x16xf32>
  %k = exec.buffer : memref<?x8xf32>
  exec.linear %x, @k.rows into %k {part = #exec<part attention>} : memref<?x16xf32>, memref<?x8xf32>
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x16xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<1x16xf32>
  %early = exec.buffer : memref<1x3xf32>
  exec.select %x into %early {threshold = 0.0 : f64, density = 0.5 : f64, part = #exec<part predictors>} : memref<1x16xf32>, memref<1x3xf32>
  %row = exec.buffer : memref<1x16xf32>
  exec.norm %x into %row {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x16xf32>, memref<1x16xf32>
  // Its list is of another row: it joins the others.
  %q = exec.buffer : memref<1x16xf32>
  exec.sparse_linear %row, @q.rows of %early : memref<1x3xf32> into %q {side = #spz<side outputs>, blocks = 2 : i64, density = 0.5 : f64, part = #exec<part attention>} : memref<1x16xf32>, memref<1x16xf32>
  %k = exec.buffer : memref<1x8xf32>
  exec.linear %row, @k.rows into %k {part = #exec<part attention>} : memref<1x16xf32>, memref<1x8xf32>
  // Another layout: it joins too.
  %v = exec.buffer : memref<1x16xf32>
  exec.linear %row, @o.columns into %v {part = #exec<part attention>} : memref<1x16xf32>, memref<1x16xf32>
  // Each of several rows: apart.
  %heads = exec.view %row {start = 0 : i64, strides = array<i64: 8, 1>} : memref<1x16xf32> -> memref<1x2x8xf32>
  %each = exec.buffer : memref<1x2x4xf32>
  exec.linear %heads, @each.rows into %each {part = #exec<part attention>} : memref<1x2x8xf32>, memref<1x2x4xf32>
  // What it adds another one gives: after that.
  %after = exec.buffer : memref<1x16xf32>
  exec.linear %row, @q.rows plus %v : memref<1x16xf32> into %after {part = #exec<part other>} : memref<1x16xf32>, memref<1x16xf32>
  // Predictions run beside the others: at once, but not with them.
  %one = exec.buffer : memref<1x4xf32>
  exec.linear %row, @rank.rows into %one {part = #exec<part predictors>} : memref<1x16xf32>, memref<1x4xf32>
  %two = exec.buffer : memref<1x4xf32>
  exec.linear %row, @rank.rows into %two {part = #exec<part predictors>} : memref<1x16xf32>, memref<1x4xf32>
  %first = exec.buffer : memref<1x3xf32>
  exec.select %one into %first {threshold = 0.0 : f64, density = 0.5 : f64, part = #exec<part predictors>} : memref<1x4xf32>, memref<1x3xf32>
  %second = exec.buffer : memref<1x3xf32>
  exec.select %two into %second {threshold = 0.0 : f64, density = 0.5 : f64, part = #exec<part predictors>} : memref<1x4xf32>, memref<1x3xf32>
  // Its list is of the same row: the others would wait for it.
  %late = exec.buffer : memref<1x16xf32>
  exec.sparse_linear %row, @q.rows of %first : memref<1x3xf32> into %late {side = #spz<side outputs>, blocks = 2 : i64, density = 0.5 : f64, part = #exec<part attention>} : memref<1x16xf32>, memref<1x16xf32>
  %end = exec.buffer : memref<1x16xf32>
  exec.sparse_linear %late, @o.columns of %second : memref<1x3xf32> into %end {side = #spz<side inputs>, blocks = 2 : i64, density = 0.5 : f64, part = #exec<part attention>} : memref<1x16xf32>, memref<1x16xf32>
}

// CHECK-LABEL: exec.program @prefill
// CHECK-NOT:     exec.launch
// CHECK-LABEL: exec.program @decode
// CHECK:         exec.norm %x into %row
// CHECK-NEXT:    %q = exec.buffer
// CHECK-NEXT:    %k = exec.buffer
// CHECK-NEXT:    %v = exec.buffer
// CHECK-NEXT:    exec.launch {
// CHECK-NEXT:      exec.sparse_linear %row, @q.rows of %early : memref<1x3xf32> into %q
// CHECK-NEXT:      exec.linear %row, @k.rows into %k
// CHECK-NEXT:      exec.linear %row, @o.columns into %v
// CHECK-NEXT:    }
// CHECK:         exec.linear %heads, @each.rows into %each
// CHECK:         exec.launch {
// CHECK-NEXT:      exec.linear %row, @rank.rows into %one
// CHECK-NEXT:      exec.linear %row, @rank.rows into %two
// CHECK-NEXT:    }
// CHECK:         exec.linear %row, @q.rows plus %v : memref<1x16xf32> into %after
// CHECK:         exec.sparse_linear %row, @q.rows of %first : memref<1x3xf32> into %late
