// RUN: sparsecomp-opt %s -p fuse-residual | filecheck %s

exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 16, 8, 8>, of = [@up, @down]}
exec.storage @bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@bias]}
exec.program @prefill attributes {tile = 64 : i64} {
  exec.barrier
}
exec.program @decode attributes {tile = 1 : i64} {
  %x = exec.buffer : memref<1x8xf32>
  exec.embed @bias.floats into %x {index = #exec<index tokens>} : memref<1x8xf32>
  // The sum moves to where the other operand is known.
  %parts = exec.buffer : memref<1x8xf32>
  exec.mlp %x, @mlp.neurons into %parts {act = #spz<act relu>} : memref<1x8xf32>, memref<1x8xf32>
  %sum = exec.buffer : memref<1x8xf32>
  exec.sum %parts into %sum {module = "mlp", bias = @bias.floats} : memref<1x8xf32>, memref<1x8xf32>
  %norm = exec.buffer : memref<1x8xf32>
  exec.norm %x into %norm {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x8xf32>, memref<1x8xf32>
  %y = exec.buffer : memref<1x8xf32>
  exec.map(%norm, %sum) into %y : memref<1x8xf32>, memref<1x8xf32> into memref<1x8xf32> attributes {module = "block"} {
  ^bb0(%0: tensor<f32>, %1: tensor<f32>):
    %2 = aten.add.Tensor(%0, %1) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    exec.yield %2 : tensor<f32>
  }
  // Scaled, or read by another kernel too: left alone.
  %sum_1 = exec.buffer : memref<1x8xf32>
  exec.sum %parts into %sum_1 : memref<1x8xf32>, memref<1x8xf32>
  %scaled = exec.buffer : memref<1x8xf32>
  exec.map(%y, %sum_1) into %scaled : memref<1x8xf32>, memref<1x8xf32> into memref<1x8xf32> {
  ^bb0(%3: tensor<f32>, %4: tensor<f32>):
    %5 = aten.add.Tensor(%3, %4, alpha = 2) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    exec.yield %5 : tensor<f32>
  }
  %sum_2 = exec.buffer : memref<1x8xf32>
  exec.sum %parts into %sum_2 : memref<1x8xf32>, memref<1x8xf32>
  exec.norm %sum_2 into %norm {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x8xf32>, memref<1x8xf32>
  exec.map(%y, %sum_2) into %scaled : memref<1x8xf32>, memref<1x8xf32> into memref<1x8xf32> {
  ^bb0(%6: tensor<f32>, %7: tensor<f32>):
    %8 = aten.add.Tensor(%6, %7) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    exec.yield %8 : tensor<f32>
  }
}

// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64} {
// CHECK-NEXT:    %x = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.embed @bias.floats into %x {index = #exec<index tokens>} : memref<1x8xf32>
// CHECK-NEXT:    %parts = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.mlp %x, @mlp.neurons into %parts {act = #spz<act relu>} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %norm = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.norm %x into %norm {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %y = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.sum %parts plus %norm : memref<1x8xf32> into %y {module = "mlp", bias = @bias.floats} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %sum = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.sum %parts into %sum : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %scaled = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.map(%y, %sum) into %scaled : memref<1x8xf32>, memref<1x8xf32> into memref<1x8xf32> {
// CHECK-NEXT:    ^bb0(%0: tensor<f32>, %1: tensor<f32>):
// CHECK-NEXT:    %2 = aten.add.Tensor(%0, %1, alpha = 2) : (tensor<f32>, tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    exec.yield %2 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %sum_1 = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.sum %parts into %sum_1 : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    exec.norm %sum_1 into %norm {kind = #exec<norm_kind rms>, eps = 1.000000e-05 : f64} : memref<1x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    exec.map(%y, %sum_1) into %scaled : memref<1x8xf32>, memref<1x8xf32> into memref<1x8xf32> {
// CHECK-NEXT:    ^bb0(%3: tensor<f32>, %4: tensor<f32>):
// CHECK-NEXT:    %5 = aten.add.Tensor(%3, %4) : (tensor<f32>, tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    exec.yield %5 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    }
