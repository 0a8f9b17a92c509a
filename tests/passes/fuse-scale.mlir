// RUN: sparsecomp-opt %s --device cuda -p fuse-scale | filecheck %s

exec.kv_slot 0 : i64 {groups = 2 : i64, key = 8 : i64, value = 8 : i64}
exec.program @prefill attributes {tile = 64 : i64} {
  exec.barrier
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x16xf32>
  exec.ids %x {index = #exec<index tokens>} : memref<1x16xf32>
  %scaled = exec.buffer : memref<1x16xf32>
  exec.map(%x) into %scaled : memref<1x16xf32> into memref<1x16xf32> {
  ^bb0(%0: tensor<f32>):
    %1 = aten.mul.Scalar(%0, other = 0.5) : (tensor<f32>) -> tensor<f32>
    exec.yield %1 : tensor<f32>
  }
  %q = exec.view %scaled {start = 0 : i64, strides = array<i64: 8, 1>} : memref<1x16xf32> -> memref<1x2x8xf32>
  %first = exec.buffer : memref<1x2x32xf32>
  exec.attend %q from 0 : i64 into %first {scale = 3.0 : f64} : memref<1x2x8xf32>, memref<1x2x32xf32>
  // What somebody else reads too is scaled for both.
  %both = exec.buffer : memref<1x16xf32>
  exec.map(%x) into %both : memref<1x16xf32> into memref<1x16xf32> {
  ^bb0(%2: tensor<f32>):
    %3 = aten.mul.Scalar(%2, other = 0.5) : (tensor<f32>) -> tensor<f32>
    exec.yield %3 : tensor<f32>
  }
  %k = exec.view %both {start = 0 : i64, strides = array<i64: 8, 1>} : memref<1x16xf32> -> memref<1x2x8xf32>
  exec.append %k, %k to 0 : i64 : memref<1x2x8xf32>, memref<1x2x8xf32>
  %second = exec.buffer : memref<1x2x32xf32>
  exec.attend %k from 0 : i64 into %second {scale = 1.0 : f64} : memref<1x2x8xf32>, memref<1x2x32xf32>
}

// CHECK-LABEL: exec.program @decode
// CHECK-NEXT:    %x = exec.buffer
// CHECK-NEXT:    exec.ids %x
// CHECK-NEXT:    %q = exec.view %x {start = 0 : i64, strides = array<i64: 8, 1>}
// CHECK-NEXT:    %first = exec.buffer
// CHECK-NEXT:    exec.attend %q from 0 : i64 into %first {scale = 1.500000e+00 : f64}
// CHECK-NEXT:    %both = exec.buffer
// CHECK-NEXT:    exec.map(%x) into %both
// CHECK:         exec.attend %k from 0 : i64 into %second {scale = 1.000000e+00 : f64}
