// RUN: sparsecomp-opt %s -p sparsify-head | filecheck %s
// The head of the decode step gives exact logits for the best of a sketch, and from their scores for
// the others; the last row of a prompt keeps the whole head. A soft cap stays behind.
aten.weight @emb : tensor<48x8xf32>
aten.weight @b : tensor<48xf32>
// CHECK: aten.weight @lm_head.sketch.axes : tensor<9x8xf32>
// CHECK-NEXT: aten.weight @lm_head.sketch.axes_bias : tensor<9xf32>
// CHECK-NEXT: aten.weight @lm_head.sketch.rows : tensor<48x8xf32>
// CHECK-NEXT: aten.weight @lm_head.sketch.bias : tensor<48xf32>
func.func @prefill(%x: tensor<1x8xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x48xf32> {
  // CHECK: func.func @prefill
  // CHECK-NEXT: spz.lm_head
  %0 = spz.lm_head %x, @emb, @b {module = "lm_head"} : tensor<1x8xf32> -> tensor<1x48xf32>
  func.return %0 : tensor<1x48xf32>
}
// What is probable is chosen besides the best.
func.func @probable(%x: tensor<1x8xf32>) -> tensor<1x48xf32> {
  // CHECK: func.func @probable
  // CHECK: spz.select {{%.*}} {module = "lm_head", count = 12 : i64, group = 48 : i64, probability = 1.000000e-02 : f64, density = 3.000000e-01 : f64, active = 3.000000e-01 : f64}
  %0 = spz.lm_head %x, @emb, @b {module = "lm_head", sparsity = #spz.sparsity<sketch, count = 12, probability = 0.01, density = 0.3, offset = 0.125>} : tensor<1x8xf32> -> tensor<1x48xf32>
  func.return %0 : tensor<1x48xf32>
}
// A cascade scores twice. There are no coarse axes among 8: nothing is left to refine.
func.func @cascade(%x: tensor<1x8xf32>) -> tensor<1x48xf32> {
  // CHECK: func.func @cascade
  // CHECK: [[SCORES:%.*]] = spz.sketch {{%.*}}, @lm_head.sketch.rows, @lm_head.sketch.bias {module = "lm_head", bits = 1 : i64}
  // CHECK-NEXT: [[CHOSEN:%.*]] = spz.select [[SCORES]] {module = "lm_head", count = 12 : i64
  // CHECK-NEXT: spz.sparse_head %x, [[CHOSEN]], [[SCORES]], @emb, @b
  %0 = spz.lm_head %x, @emb, @b {module = "lm_head", sparsity = #spz.sparsity<cascade, count = 12, density = 0.25, offset = 0.125, first_count = 24, first_density = 0.5, first_offset = 0.25>} : tensor<1x8xf32> -> tensor<1x48xf32>
  func.return %0 : tensor<1x48xf32>
}
func.func @decode(%x: tensor<1x8xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x48xf32> {
  // CHECK: func.func @decode([[X:%.*]]: tensor<1x8xf32>, %positions
  // CHECK-NEXT: [[AXES:%.*]] = spz.linear [[X]], @lm_head.sketch.axes, @lm_head.sketch.axes_bias {module = "lm_head"} : tensor<1x8xf32> -> tensor<1x9xf32>
  // CHECK-NEXT: [[SCORES:%.*]] = spz.sketch [[AXES]], @lm_head.sketch.rows, @lm_head.sketch.bias {module = "lm_head", bits = 2 : i64} : tensor<1x9xf32> -> tensor<1x48xf32>
  // CHECK-NEXT: [[CHOSEN:%.*]] = spz.select [[SCORES]] {module = "lm_head", count = 12 : i64, group = 48 : i64, density = 2.500000e-01 : f64, active = 2.500000e-01 : f64} : tensor<1x48xf32> -> tensor<1x48xi1>
  // CHECK-NEXT: [[LOGITS:%.*]] = spz.sparse_head [[X]], [[CHOSEN]], [[SCORES]], @emb, @b {module = "lm_head", offset = 1.250000e-01 : f64, density = 2.500000e-01 : f64} : tensor<1x8xf32>, tensor<1x48xi1>, tensor<1x48xf32> -> tensor<1x48xf32>
  // CHECK-NEXT: aten.tanh([[LOGITS]])
  %0 = spz.lm_head %x, @emb, @b {module = "lm_head", sparsity = #spz.sparsity<sketch, count = 12, density = 0.25, offset = 0.125>} : tensor<1x8xf32> -> tensor<1x48xf32>
  %1 = aten.tanh(%0) : (tensor<1x48xf32>) -> tensor<1x48xf32>
  func.return %1 : tensor<1x48xf32>
}
