// RUN: sparsecomp-opt %s -p schedule-workers | filecheck %s

// What is added up over ranks: worker 0 does it, for all rows at once, so these are shared; of one
// row it takes what it has of its own. Nothing is skipped when no logits are wanted: the other
// ranks would wait.
exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 40, 8>, of = [@table]}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 18, 8, 8>, of = [@up, @down]}
exec.kv_slot 0 : i64 {groups = 2 : i64, key = 4 : i64, value = 4 : i64}
exec.program @prefill attributes {tile = 64 : i64} {
  %x = exec.buffer : memref<?x8xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<?x8xf32>
  %neurons = exec.buffer : memref<?x8xf32>
  exec.mlp %x, @mlp.neurons into %neurons {act = #spz<act relu>} : memref<?x8xf32>, memref<?x8xf32>
  %part = exec.buffer : memref<?x8xf32>
  exec.sum %neurons into %part : memref<?x8xf32>, memref<?x8xf32>
  %sum = exec.buffer : memref<?x8xf32>
  exec.all_reduce %part : memref<?x8xf32> into %sum : memref<?x8xf32>
  %k = exec.view %sum {start = 0 : i64, strides = array<i64: 4, 1>} : memref<?x8xf32> -> memref<?x2x4xf32>
  exec.append %k, %k to 0 : i64 : memref<?x2x4xf32>, memref<?x2x4xf32>
  %last = exec.buffer : memref<1x8xf32>
  exec.last %sum into %last : memref<?x8xf32>, memref<1x8xf32>
  %logits = exec.buffer {space = #exec<space output>} : memref<1x40xf32>
  exec.linear %last, @table.rows into %logits {part = #exec<part head>} : memref<1x8xf32>, memref<1x40xf32>
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x8xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<1x8xf32>
  %neurons = exec.buffer : memref<1x8xf32>
  exec.mlp %x, @mlp.neurons into %neurons {act = #spz<act relu>} : memref<1x8xf32>, memref<1x8xf32>
  %part = exec.buffer : memref<1x8xf32>
  exec.sum %neurons into %part : memref<1x8xf32>, memref<1x8xf32>
  %sum = exec.buffer : memref<1x8xf32>
  exec.all_reduce %part : memref<1x8xf32> into %sum : memref<1x8xf32>
  %logits = exec.buffer {space = #exec<space output>} : memref<1x40xf32>
  exec.linear %sum, @table.rows into %logits {part = #exec<part head>} : memref<1x8xf32>, memref<1x40xf32>
}
// CHECK:       exec.program @prefill attributes {tile = 64 : i64, workers = 2 : i64} {
// CHECK-NEXT:    %x = exec.buffer {space = #exec<space private>} : memref<?x8xf32>
// CHECK-NEXT:    exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<rows>} : memref<?x8xf32>
// CHECK-NEXT:    %neurons = exec.buffer {space = #exec<space private>} : memref<?x8xf32>
// CHECK-NEXT:    exec.mlp %x, @mlp.neurons into %neurons {act = #spz<act relu>, work = #exec.work<rows>} : memref<?x8xf32>, memref<?x8xf32>
// CHECK-NEXT:    %part = exec.buffer {space = #exec<space shared>} : memref<?x8xf32>
// CHECK-NEXT:    exec.sum %neurons into %part {work = #exec.work<rows>} : memref<?x8xf32>, memref<?x8xf32>
// CHECK-NEXT:    %sum = exec.buffer {space = #exec<space shared>} : memref<?x8xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.all_reduce %part : memref<?x8xf32> into %sum {work = #exec.work<one, [0]>} : memref<?x8xf32>
// CHECK-NEXT:    %k = exec.view %sum {start = 0 : i64, strides = array<i64: 4, 1>} : memref<?x8xf32> -> memref<?x2x4xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.append %k, %k to 0 : i64 {work = #exec.work<rows>} : memref<?x2x4xf32>, memref<?x2x4xf32>
// CHECK-NEXT:    %last = exec.buffer {space = #exec<space shared>} : memref<1x8xf32>
// CHECK-NEXT:    exec.last %sum into %last {work = #exec.work<one, [1]>} : memref<?x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %logits = exec.buffer {space = #exec<space output>} : memref<1x40xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.linear %last, @table.rows into %logits {part = #exec<part head>, work = #exec.work<split, [0, 16, 40]>} : memref<1x8xf32>, memref<1x40xf32>
// CHECK-NEXT:  }
// CHECK-NEXT:  exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
// CHECK-NEXT:    %x = exec.buffer {space = #exec<space private>} : memref<1x8xf32>
// CHECK-NEXT:    exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x8xf32>
// CHECK-NEXT:    %neurons = exec.buffer {space = #exec<space parts>} : memref<1x8xf32>
// CHECK-NEXT:    exec.mlp %x, @mlp.neurons into %neurons {act = #spz<act relu>, work = #exec.work<split, [0, 8, 18]>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %part = exec.buffer {space = #exec<space private>} : memref<1x8xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.sum %neurons into %part {work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %sum = exec.buffer {space = #exec<space shared>} : memref<1x8xf32>
// CHECK-NEXT:    exec.all_reduce %part : memref<1x8xf32> into %sum {work = #exec.work<one, [0]>} : memref<1x8xf32>
// CHECK-NEXT:    %logits = exec.buffer {space = #exec<space output>} : memref<1x40xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.linear %sum, @table.rows into %logits {part = #exec<part head>, work = #exec.work<split, [0, 16, 40]>} : memref<1x8xf32>, memref<1x40xf32>
// CHECK-NEXT:  }
