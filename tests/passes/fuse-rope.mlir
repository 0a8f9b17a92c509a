// RUN: sparsecomp-opt %s --device cuda -p fuse-rope | filecheck %s

exec.storage @cos.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 16, 4>, of = [@cos]}
exec.storage @sin.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 16, 4>, of = [@sin]}
exec.kv_slot 0 : i64 {groups = 1 : i64, key = 8 : i64, value = 8 : i64}
exec.program @prefill attributes {tile = 64 : i64} {
  exec.barrier
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x16xf32>
  exec.ids %x {index = #exec<index tokens>} : memref<1x16xf32>
  %q = exec.view %x {start = 0 : i64, strides = array<i64: 8, 1>} : memref<1x16xf32> -> memref<1x2x8xf32>
  %k = exec.view %x {start = 8 : i64, strides = array<i64: 8, 1>} : memref<1x16xf32> -> memref<1x1x8xf32>
  %turned_q = exec.buffer : memref<1x2x8xf32>
  exec.rope %q into %turned_q {cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>} : memref<1x2x8xf32>, memref<1x2x8xf32>
  %turned_k = exec.buffer : memref<1x1x8xf32>
  exec.rope %k into %turned_k {cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>} : memref<1x1x8xf32>, memref<1x1x8xf32>
  exec.append %turned_k, %k to 0 : i64 : memref<1x1x8xf32>, memref<1x1x8xf32>
  %parts = exec.buffer : memref<1x2x32xf32>
  exec.attend %turned_q from 0 : i64 into %parts {scale = 1.000000e+00 : f64} : memref<1x2x8xf32>, memref<1x2x32xf32>
  // Values that are turned, and what is read twice, are left alone.
  %other = exec.buffer : memref<1x1x8xf32>
  exec.rope %k into %other {cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>} : memref<1x1x8xf32>, memref<1x1x8xf32>
  exec.append %k, %other to 0 : i64 : memref<1x1x8xf32>, memref<1x1x8xf32>
  %both = exec.buffer : memref<1x1x8xf32>
  exec.rope %k into %both {cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>} : memref<1x1x8xf32>, memref<1x1x8xf32>
  exec.append %both, %both to 0 : i64 : memref<1x1x8xf32>, memref<1x1x8xf32>
}
// CHECK-LABEL: exec.program @decode
// CHECK:         %k = exec.view
// CHECK-NEXT:    exec.append %k, %k to 0 : i64 {cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>}
// CHECK-NEXT:    %parts = exec.buffer
// CHECK-NEXT:    exec.attend %q from 0 : i64 into %parts {scale = 1.000000e+00 : f64, cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>}
// CHECK-NEXT:    %other = exec.buffer
// CHECK-NEXT:    exec.rope %k into %other
// CHECK-NEXT:    exec.append %k, %other to 0 : i64 :
// CHECK-NEXT:    %both = exec.buffer
// CHECK-NEXT:    exec.rope %k into %both
// CHECK-NEXT:    exec.append %both, %both to 0 : i64 :
