// RUN: sparsecomp-opt %s --device cuda -p fuse-append | filecheck %s

exec.storage @cos.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 16, 4>, of = [@cos]}
exec.storage @sin.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 16, 4>, of = [@sin]}
exec.kv_slot 0 : i64 {groups = 1 : i64, key = 8 : i64, value = 8 : i64}
exec.kv_slot 1 : i64 {groups = 1 : i64, key = 8 : i64, value = 8 : i64}
exec.kv_slot 2 : i64 {groups = 1 : i64, key = 8 : i64, value = 8 : i64}
// Many rows are appended before any of them is read.
exec.program @prefill attributes {tile = 64 : i64} {
  %x = exec.buffer : memref<?x1x8xf32>
  exec.append %x, %x to 0 : i64 : memref<?x1x8xf32>, memref<?x1x8xf32>
  %out = exec.buffer : memref<?x1x8xf32>
  exec.attend %x from 0 : i64 into %out {scale = 1.000000e+00 : f64} : memref<?x1x8xf32>, memref<?x1x8xf32>
}
exec.program @decode attributes {tile = 1 : i64} {
  %k = exec.buffer : memref<1x1x8xf32>
  exec.ids %k {index = #exec<index tokens>} : memref<1x1x8xf32>
  exec.append %k, %k to 0 : i64 {cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>} : memref<1x1x8xf32>, memref<1x1x8xf32>
  %q = exec.buffer : memref<1x2x8xf32>
  exec.ids %q {index = #exec<index positions>} : memref<1x2x8xf32>
  %parts = exec.buffer : memref<1x2x32xf32>
  exec.attend %q from 0 : i64 into %parts {scale = 1.000000e+00 : f64, cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>} : memref<1x2x8xf32>, memref<1x2x32xf32>
  // Two that turn otherwise, and a slot that is read twice, are left alone.
  exec.append %k, %k to 1 : i64 : memref<1x1x8xf32>, memref<1x1x8xf32>
  %turned = exec.buffer : memref<1x2x32xf32>
  exec.attend %q from 1 : i64 into %turned {scale = 1.000000e+00 : f64, cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>} : memref<1x2x8xf32>, memref<1x2x32xf32>
  exec.append %k, %k to 2 : i64 : memref<1x1x8xf32>, memref<1x1x8xf32>
  %one = exec.buffer : memref<1x2x32xf32>
  exec.attend %q from 2 : i64 into %one {scale = 1.000000e+00 : f64} : memref<1x2x8xf32>, memref<1x2x32xf32>
  %two = exec.buffer : memref<1x2x32xf32>
  exec.attend %q from 2 : i64 into %two {scale = 1.000000e+00 : f64} : memref<1x2x8xf32>, memref<1x2x32xf32>
}
// CHECK-LABEL: exec.program @prefill
// CHECK-NOT:     exec.launch
// CHECK-LABEL: exec.program @decode
// CHECK:         exec.ids %k
// CHECK-NEXT:    %q = exec.buffer
// CHECK-NEXT:    exec.ids %q
// CHECK-NEXT:    %parts = exec.buffer : memref<1x2x32xf32>
// CHECK-NEXT:    exec.launch {
// CHECK-NEXT:      exec.append %k, %k to 0 : i64 {cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>}
// CHECK-NEXT:      exec.attend %q from 0 : i64 into %parts {scale = 1.000000e+00 : f64, cos = @cos.floats, sin = @sin.floats, rotary = 4 : i64, pairing = #spz<pairing half>}
// CHECK-NEXT:    }
// CHECK-NEXT:    exec.append %k, %k to 1
// CHECK-NEXT:    %turned = exec.buffer
// CHECK-NEXT:    exec.attend %q from 1
// CHECK-NEXT:    exec.append %k, %k to 2
// CHECK-NEXT:    %one = exec.buffer
// CHECK-NEXT:    exec.attend %q from 2
// CHECK-NEXT:    %two = exec.buffer
// CHECK-NEXT:    exec.attend %q from 2
// CHECK-NEXT:  }
