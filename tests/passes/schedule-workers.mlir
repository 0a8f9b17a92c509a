// RUN: sparsecomp-opt %s -p schedule-workers | filecheck %s

// Rows of a prompt stay with their worker, which waits for the others' keys and values alone. Of
// one row, what reads many weights is split, and the rest done by each; whoever reads what others
// wrote waits first. Two workers.
exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 40, 8>, of = [@table]}
exec.storage @large.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 4096, 8>, of = [@large]}
exec.storage @small.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 8, 4096>, of = [@small]}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 18, 8, 8>, of = [@up, @down]}
exec.kv_slot 0 : i64 {groups = 2 : i64, key = 4 : i64, value = 4 : i64}
exec.program @prefill attributes {tile = 64 : i64} {
  %x = exec.buffer : memref<?x8xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<?x8xf32>
  %k = exec.view %x {start = 0 : i64, strides = array<i64: 4, 1>} : memref<?x8xf32> -> memref<?x2x4xf32>
  exec.append %k, %k to 0 : i64 : memref<?x2x4xf32>, memref<?x2x4xf32>
  %attention = exec.buffer : memref<?x2x4xf32>
  exec.attend %k from 0 : i64 into %attention {scale = 5.000000e-01 : f64} : memref<?x2x4xf32>, memref<?x2x4xf32>
  %last = exec.buffer : memref<1x2x4xf32>
  exec.last %attention into %last : memref<?x2x4xf32>, memref<1x2x4xf32>
  %y = exec.view %last {start = 0 : i64, strides = array<i64: 1>} : memref<1x2x4xf32> -> memref<1x8xf32>
  %logits = exec.buffer {space = #exec<space output>} : memref<1x40xf32>
  exec.linear %y, @table.rows into %logits {part = #exec<part head>} : memref<1x8xf32>, memref<1x40xf32>
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x8xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<1x8xf32>
  %k = exec.view %x {start = 0 : i64, strides = array<i64: 4, 1>} : memref<1x8xf32> -> memref<1x2x4xf32>
  exec.append %k, %k to 0 : i64 : memref<1x2x4xf32>, memref<1x2x4xf32>
  %parts = exec.buffer : memref<1x2x32xf32>
  exec.attend %k from 0 : i64 into %parts {scale = 5.000000e-01 : f64} : memref<1x2x4xf32>, memref<1x2x32xf32>
  %attention = exec.buffer : memref<1x2x4xf32>
  exec.combine %parts into %attention : memref<1x2x32xf32>, memref<1x2x4xf32>
  %y = exec.view %attention {start = 0 : i64, strides = array<i64: 1>} : memref<1x2x4xf32> -> memref<1x8xf32>
  %wide = exec.buffer : memref<1x4096xf32>
  exec.linear %y, @large.rows into %wide {part = #exec<part other>} : memref<1x8xf32>, memref<1x4096xf32>
  %narrow = exec.buffer : memref<1x8xf32>
  exec.linear %wide, @small.rows into %narrow {part = #exec<part other>} : memref<1x4096xf32>, memref<1x8xf32>
  %neurons = exec.buffer : memref<1x8xf32>
  exec.mlp %narrow, @mlp.neurons into %neurons {act = #spz<act relu>} : memref<1x8xf32>, memref<1x8xf32>
  %sum = exec.buffer : memref<1x8xf32>
  exec.sum %neurons plus %x : memref<1x8xf32> into %sum : memref<1x8xf32>, memref<1x8xf32>
  %scores = exec.buffer : memref<1x40xf32>
  exec.linear %sum, @table.rows into %scores {part = #exec<part head>} : memref<1x8xf32>, memref<1x40xf32>
  %logits = exec.buffer {space = #exec<space output>} : memref<1x40xf32>
  exec.map(%scores) into %logits : memref<1x40xf32> into memref<1x40xf32> {
  ^bb0(%0: tensor<f32>):
    %1 = aten.tanh(%0) : (tensor<f32>) -> tensor<f32>
    exec.yield %1 : tensor<f32>
  }
}

// CHECK-LABEL: exec.program @prefill attributes {tile = 64 : i64, workers = 2 : i64} {
// CHECK-NEXT:    %x = exec.buffer {space = #exec<space private>} : memref<?x8xf32>
// CHECK-NEXT:    exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<rows>} : memref<?x8xf32>
// CHECK-NEXT:    %k = exec.view %x {start = 0 : i64, strides = array<i64: 4, 1>} : memref<?x8xf32> -> memref<?x2x4xf32>
// CHECK-NEXT:    exec.append %k, %k to 0 : i64 {work = #exec.work<rows>} : memref<?x2x4xf32>, memref<?x2x4xf32>
// CHECK-NEXT:    exec.logits_only
// CHECK-NEXT:    %attention = exec.buffer {space = #exec<space private>} : memref<?x2x4xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.attend %k from 0 : i64 into %attention {scale = 5.000000e-01 : f64, work = #exec.work<rows>} : memref<?x2x4xf32>, memref<?x2x4xf32>
// CHECK-NEXT:    %last = exec.buffer {space = #exec<space shared>} : memref<1x2x4xf32>
// CHECK-NEXT:    exec.last %attention into %last {work = #exec.work<one, [1]>} : memref<?x2x4xf32>, memref<1x2x4xf32>
// CHECK-NEXT:    %y = exec.view %last {start = 0 : i64, strides = array<i64: 1>} : memref<1x2x4xf32> -> memref<1x8xf32>
// CHECK-NEXT:    %logits = exec.buffer {space = #exec<space output>} : memref<1x40xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.linear %y, @table.rows into %logits {part = #exec<part head>, work = #exec.work<split, [0, 16, 40]>} : memref<1x8xf32>, memref<1x40xf32>
// CHECK-NEXT:    }
// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
// CHECK-NEXT:    %x = exec.buffer {space = #exec<space private>} : memref<1x8xf32>
// CHECK-NEXT:    exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x8xf32>
// CHECK-NEXT:    %k = exec.view %x {start = 0 : i64, strides = array<i64: 4, 1>} : memref<1x8xf32> -> memref<1x2x4xf32>
// CHECK-NEXT:    exec.append %k, %k to 0 : i64 {work = #exec.work<one, [1]>} : memref<1x2x4xf32>, memref<1x2x4xf32>
// CHECK-NEXT:    %parts = exec.buffer {space = #exec<space parts>} : memref<1x2x32xf32>
// CHECK-NEXT:    exec.attend %k from 0 : i64 into %parts {scale = 5.000000e-01 : f64, work = #exec.work<context>} : memref<1x2x4xf32>, memref<1x2x32xf32>
// CHECK-NEXT:    %attention = exec.buffer {space = #exec<space private>} : memref<1x2x4xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.combine %parts into %attention {work = #exec.work<each>} : memref<1x2x32xf32>, memref<1x2x4xf32>
// CHECK-NEXT:    %y = exec.view %attention {start = 0 : i64, strides = array<i64: 1>} : memref<1x2x4xf32> -> memref<1x8xf32>
// CHECK-NEXT:    %wide = exec.buffer {space = #exec<space shared>} : memref<1x4096xf32>
// CHECK-NEXT:    exec.linear %y, @large.rows into %wide {part = #exec<part other>, work = #exec.work<split, [0, 2048, 4096]>} : memref<1x8xf32>, memref<1x4096xf32>
// CHECK-NEXT:    %narrow = exec.buffer {space = #exec<space shared>} : memref<1x8xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.linear %wide, @small.rows into %narrow {part = #exec<part other>, work = #exec.work<split, [0, 0, 8]>} : memref<1x4096xf32>, memref<1x8xf32>
// CHECK-NEXT:    %neurons = exec.buffer {space = #exec<space parts>} : memref<1x8xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.mlp %narrow, @mlp.neurons into %neurons {act = #spz<act relu>, work = #exec.work<split, [0, 8, 18]>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %sum = exec.buffer {space = #exec<space private>} : memref<1x8xf32>
// CHECK-NEXT:    exec.barrier
// CHECK-NEXT:    exec.sum %neurons plus %x : memref<1x8xf32> into %sum {work = #exec.work<each>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %scores = exec.buffer {space = #exec<space private>} : memref<1x40xf32>
// CHECK-NEXT:    exec.linear %sum, @table.rows into %scores {part = #exec<part head>, work = #exec.work<each>} : memref<1x8xf32>, memref<1x40xf32>
// CHECK-NEXT:    %logits = exec.buffer {space = #exec<space output>} : memref<1x40xf32>
// CHECK-NEXT:    exec.map(%scores) into %logits : memref<1x40xf32> into memref<1x40xf32> attributes {work = #exec.work<split, [0, 16, 40]>} {
// CHECK-NEXT:    ^bb0(%0: tensor<f32>):
// CHECK-NEXT:    %1 = aten.tanh(%0) : (tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    exec.yield %1 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    }
