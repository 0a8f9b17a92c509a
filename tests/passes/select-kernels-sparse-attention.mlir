// RUN: sparsecomp-opt %s -p choose-layouts,select-kernels,fuse-residual,schedule-workers | filecheck %s

// The output projection lies by columns, for the prompt too; the residual is added where its parts
// are summed. Workers share the rows, or columns, within each head. Two workers.
aten.weight @table : tensor<16x64xf32>
aten.weight @predictor : tensor<2x64xf32>
aten.weight @q.weight : tensor<64x64xf32>
aten.weight @q.bias : tensor<64xf32>
aten.weight @o.weight : tensor<64x64xf32>
aten.weight @o.bias : tensor<64xf32>
func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x64xf32> {
  %x = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x64xf32>
  %k = aten.reshape(%x, shape = [s, 2, 32]) : (tensor<?x64xf32>) -> tensor<?x2x32xf32>
  %a = spz.cached_attention %k, %k, %k, %positions, %cache {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<?x2x32xf32>, tensor<?x2x32xf32>, tensor<?x2x32xf32>, tensor<?xi64> -> tensor<?x2x32xf32>
  %0 = aten.reshape(%a, shape = [s, 64]) : (tensor<?x2x32xf32>) -> tensor<?x64xf32>
  %1 = spz.linear %0, @o.weight, @o.bias {module = "o"} : tensor<?x64xf32> -> tensor<?x64xf32>
  %2 = spz.last %1 : tensor<?x64xf32> -> tensor<1x64xf32>
  func.return %2 : tensor<1x64xf32>
}
func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x64xf32> {
  %x = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x64xf32>
  %scores = spz.linear %x, @predictor : tensor<1x64xf32> -> tensor<1x2xf32>
  %kept = spz.select %scores {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x2xf32> -> tensor<1x2xi1>
  %0 = spz.sparse_linear %x, %kept, @q.weight, @q.bias {module = "q", side = #spz<side outputs>, density = 5.000000e-01 : f64} : tensor<1x64xf32>, tensor<1x2xi1> -> tensor<1x64xf32>
  %q = aten.reshape(%0, shape = [1, 2, 32]) : (tensor<1x64xf32>) -> tensor<1x2x32xf32>
  %k = aten.reshape(%x, shape = [1, 2, 32]) : (tensor<1x64xf32>) -> tensor<1x2x32xf32>
  %a = spz.cached_attention %q, %k, %k, %positions, %cache keeping %kept : tensor<1x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<1x2x32xf32>, tensor<1x2x32xf32>, tensor<1x2x32xf32>, tensor<1xi64> -> tensor<1x2x32xf32>
  %1 = aten.reshape(%a, shape = [1, 64]) : (tensor<1x2x32xf32>) -> tensor<1x64xf32>
  %2 = spz.sparse_linear %1, %kept, @o.weight, @o.bias {module = "o", side = #spz<side inputs>, density = 5.000000e-01 : f64} : tensor<1x64xf32>, tensor<1x2xi1> -> tensor<1x64xf32>
  %3 = aten.add.Tensor(%x, %2) : (tensor<1x64xf32>, tensor<1x64xf32>) -> tensor<1x64xf32>
  %4 = spz.linear %3, @q.weight {module = "head"} : tensor<1x64xf32> -> tensor<1x64xf32>
  func.return %4 : tensor<1x64xf32>
}

// CHECK:      exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 64>, of = [@table]}
// CHECK-NEXT: exec.storage @o.weight.columns {layout = #exec<layout columns>, element = f32, shape = array<i64: 64, 64>, of = [@o.weight]}
// CHECK-NEXT: exec.storage @o.bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 64>, of = [@o.bias]}
// CHECK-NEXT: exec.storage @predictor.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 2, 64>, of = [@predictor]}
// CHECK-NEXT: exec.storage @q.weight.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 64, 64>, of = [@q.weight]}
// CHECK-NEXT: exec.storage @q.bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 64>, of = [@q.bias]}
// CHECK-NEXT: exec.kv_slot 0 : i64 {groups = 2 : i64, key = 32 : i64, value = 32 : i64}
// CHECK-LABEL: exec.program @prefill attributes {tile = 64 : i64, workers = 2 : i64} {
// CHECK-NEXT:   %x = exec.buffer {space = #exec<space private>} : memref<?x64xf32>
// CHECK-NEXT:   exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<rows>} : memref<?x64xf32>
// CHECK-NEXT:   %0 = exec.view %x {start = 0 : i64, strides = array<i64: 32, 1>} : memref<?x64xf32> -> memref<?x2x32xf32>
// CHECK-NEXT:   exec.append %0, %0 to 0 : i64 {work = #exec.work<rows>} : memref<?x2x32xf32>, memref<?x2x32xf32>
// CHECK-NEXT:   exec.logits_only
// CHECK-NEXT:   %a = exec.buffer {space = #exec<space private>} : memref<?x2x32xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.attend %0 from 0 : i64 into %a {scale = 5.000000e-01 : f64, work = #exec.work<rows>} : memref<?x2x32xf32>, memref<?x2x32xf32>
// CHECK-NEXT:   %1 = exec.view %a {start = 0 : i64, strides = array<i64: 1>} : memref<?x2x32xf32> -> memref<?x64xf32>
// CHECK-NEXT:   %2 = exec.buffer {space = #exec<space private>} : memref<?x64xf32>
// CHECK-NEXT:   exec.linear %1, @o.weight.columns into %2 {module = "o", bias = @o.bias.floats, part = #exec<part attention>, work = #exec.work<rows>} : memref<?x64xf32>, memref<?x64xf32>
// CHECK-NEXT:   %3 = exec.buffer {space = #exec<space output>} : memref<1x64xf32>
// CHECK-NEXT:   exec.last %2 into %3 {work = #exec.work<one, [1]>} : memref<?x64xf32>, memref<1x64xf32>
// CHECK-NEXT: }
// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
// CHECK-NEXT:   %x = exec.buffer {space = #exec<space private>} : memref<1x64xf32>
// CHECK-NEXT:   exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x64xf32>
// CHECK-NEXT:   %scores = exec.buffer {space = #exec<space private>} : memref<1x2xf32>
// CHECK-NEXT:   exec.linear %x, @predictor.rows into %scores {part = #exec<part attention>, work = #exec.work<each>} : memref<1x64xf32>, memref<1x2xf32>
// CHECK-NEXT:   %kept = exec.buffer {space = #exec<space private>} : memref<1x3xf32>
// CHECK-NEXT:   exec.select %scores into %kept {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, part = #exec<part predictors>, work = #exec.work<each>} : memref<1x2xf32>, memref<1x3xf32>
// CHECK-NEXT:   %0 = exec.buffer {space = #exec<space shared>} : memref<1x64xf32>
// CHECK-NEXT:   exec.sparse_linear %x, @q.weight.rows of %kept : memref<1x3xf32> into %0 {module = "q", bias = @q.bias.floats, side = #spz<side outputs>, blocks = 2 : i64, density = 5.000000e-01 : f64, part = #exec<part attention>, work = #exec.work<split, [0, 16, 32]>} : memref<1x64xf32>, memref<1x64xf32>
// CHECK-NEXT:   %1 = exec.view %0 {start = 0 : i64, strides = array<i64: 32, 1>} : memref<1x64xf32> -> memref<1x2x32xf32>
// CHECK-NEXT:   %2 = exec.view %x {start = 0 : i64, strides = array<i64: 32, 1>} : memref<1x64xf32> -> memref<1x2x32xf32>
// CHECK-NEXT:   exec.append %2, %2 to 0 : i64 {work = #exec.work<one, [1]>} : memref<1x2x32xf32>, memref<1x2x32xf32>
// CHECK-NEXT:   %3 = exec.buffer {space = #exec<space parts>} : memref<1x2x48xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.attend %1 of %kept : memref<1x3xf32> from 0 : i64 into %3 {scale = 5.000000e-01 : f64, work = #exec.work<context>} : memref<1x2x32xf32>, memref<1x2x48xf32>
// CHECK-NEXT:   %a = exec.buffer {space = #exec<space private>} : memref<1x2x32xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.combine %3 of %kept : memref<1x3xf32> into %a {work = #exec.work<each>} : memref<1x2x48xf32>, memref<1x2x32xf32>
// CHECK-NEXT:   %4 = exec.view %a {start = 0 : i64, strides = array<i64: 1>} : memref<1x2x32xf32> -> memref<1x64xf32>
// CHECK-NEXT:   %5 = exec.buffer {space = #exec<space parts>} : memref<1x64xf32>
// CHECK-NEXT:   exec.sparse_linear %4, @o.weight.columns of %kept : memref<1x3xf32> into %5 {module = "o", side = #spz<side inputs>, blocks = 2 : i64, density = 5.000000e-01 : f64, part = #exec<part attention>, work = #exec.work<split, [0, 16, 32]>} : memref<1x64xf32>, memref<1x64xf32>
// CHECK-NEXT:   %6 = exec.buffer {space = #exec<space private>} : memref<1x64xf32>
// CHECK-NEXT:   exec.barrier
// CHECK-NEXT:   exec.sum %5 plus %x : memref<1x64xf32> into %6 {module = "o", bias = @o.bias.floats, work = #exec.work<each>} : memref<1x64xf32>, memref<1x64xf32>
// CHECK-NEXT:   %7 = exec.buffer {space = #exec<space output>} : memref<1x64xf32>
// CHECK-NEXT:   exec.linear %6, @q.weight.rows into %7 {module = "head", part = #exec<part other>, work = #exec.work<split, [0, 32, 64]>} : memref<1x64xf32>, memref<1x64xf32>
// CHECK-NEXT: }
