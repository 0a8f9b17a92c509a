// RUN: sparsecomp-opt %s -p fuse-maps | filecheck %s

exec.program @prefill attributes {tile = 64 : i64} {
  exec.barrier
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x8xf32>
  %y = exec.buffer : memref<1x8xf32>
  exec.ids %x {index = #exec<index tokens>} : memref<1x8xf32>
  // A chain becomes one map; an input that both read is read once.
  %halved = exec.buffer : memref<1x8xf32>
  exec.map(%x) into %halved : memref<1x8xf32> into memref<1x8xf32> {
  ^bb0(%0: tensor<f32>):
    %1 = aten.mul.Scalar(%0, other = 0.5) : (tensor<f32>) -> tensor<f32>
    exec.yield %1 : tensor<f32>
  }
  %bent = exec.buffer : memref<1x8xf32>
  exec.map(%halved, %x) into %bent : memref<1x8xf32>, memref<1x8xf32> into memref<1x8xf32> attributes {module = "act"} {
  ^bb0(%2: tensor<f32>, %3: tensor<f32>):
    %4 = aten.tanh(%2) : (tensor<f32>) -> tensor<f32>
    %5 = aten.add.Tensor(%4, %3) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    exec.yield %5 : tensor<f32>
  }
  exec.map(%bent) into %y : memref<1x8xf32> into memref<1x8xf32> attributes {module = "out"} {
  ^bb0(%6: tensor<f32>):
    %7 = aten.exp(%6) : (tensor<f32>) -> tensor<f32>
    exec.yield %7 : tensor<f32>
  }
  // Another shape, or another reader: left alone.
  %row = exec.buffer : memref<1x1xf32>
  exec.map(%row) into %row : memref<1x1xf32> into memref<1x1xf32> {
  ^bb0(%8: tensor<f32>):
    %9 = aten.exp(%8) : (tensor<f32>) -> tensor<f32>
    exec.yield %9 : tensor<f32>
  }
  %wide = exec.buffer : memref<1x8xf32>
  exec.map(%row) into %wide : memref<1x1xf32> into memref<1x8xf32> {
  ^bb0(%10: tensor<f32>):
    exec.yield %10 : tensor<f32>
  }
  %z = exec.buffer : memref<1x8xf32>
  exec.norm %wide into %z {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x8xf32>, memref<1x8xf32>
  exec.map(%wide) into %z : memref<1x8xf32> into memref<1x8xf32> {
  ^bb0(%11: tensor<f32>):
    exec.yield %11 : tensor<f32>
  }
}

// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64} {
// CHECK-NEXT:    %x = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    %y = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.ids %x {index = #exec<index tokens>} : memref<1x8xf32>
// CHECK-NEXT:    exec.map(%x) into %y : memref<1x8xf32> into memref<1x8xf32> attributes {module = "out"} {
// CHECK-NEXT:    ^bb0(%0: tensor<f32>):
// CHECK-NEXT:    %1 = aten.mul.Scalar(%0, other = 0.5) : (tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    %2 = aten.tanh(%1) : (tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    %3 = aten.add.Tensor(%2, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    %4 = aten.exp(%3) : (tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    exec.yield %4 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %row = exec.buffer : memref<1x1xf32>
// CHECK-NEXT:    exec.map(%row) into %row : memref<1x1xf32> into memref<1x1xf32> {
// CHECK-NEXT:    ^bb0(%5: tensor<f32>):
// CHECK-NEXT:    %6 = aten.exp(%5) : (tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    exec.yield %6 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %wide = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.map(%row) into %wide : memref<1x1xf32> into memref<1x8xf32> {
// CHECK-NEXT:    ^bb0(%7: tensor<f32>):
// CHECK-NEXT:    exec.yield %7 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %z = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.norm %wide into %z {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    exec.map(%wide) into %z : memref<1x8xf32> into memref<1x8xf32> {
// CHECK-NEXT:    ^bb0(%8: tensor<f32>):
// CHECK-NEXT:    exec.yield %8 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    }
