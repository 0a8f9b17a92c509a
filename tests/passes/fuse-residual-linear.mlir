// RUN: sparsecomp-opt %s --device cuda -p fuse-residual | filecheck %s
// RUN: sparsecomp-opt %s -p fuse-residual | filecheck %s --check-prefix=CPU

exec.storage @w.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 8, 8>, of = [@w]}
exec.program @prefill attributes {tile = 64 : i64} {
  exec.barrier
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x8xf32>
  exec.ids %x {index = #exec<index tokens>} : memref<1x8xf32>
  %out = exec.buffer : memref<1x8xf32>
  exec.linear %x, @w.rows into %out {part = #exec<part attention>} : memref<1x8xf32>, memref<1x8xf32>
  %y = exec.buffer : memref<1x8xf32>
  exec.map(%x, %out) into %y : memref<1x8xf32>, memref<1x8xf32> into memref<1x8xf32> {
  ^bb0(%0: tensor<f32>, %1: tensor<f32>):
    %2 = aten.add.Tensor(%0, %1) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    exec.yield %2 : tensor<f32>
  }
}
// CHECK-LABEL: exec.program @decode
// CHECK:         exec.ids
// CHECK-NEXT:    %y = exec.buffer
// CHECK-NEXT:    exec.linear %x, @w.rows plus %x : memref<1x8xf32> into %y {part = #exec<part attention>}
// CPU-LABEL:   exec.program @decode
// CPU:           exec.linear %x, @w.rows into %out
// CPU:           exec.map
