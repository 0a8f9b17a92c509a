// RUN: sparsecomp-opt %s -p sparsify-head,choose-layouts,select-kernels | filecheck %s
// A cascade: a first sketch of 1 bit for every row, what it leaves for those that are worth it, then
// exact logits for the best of these scores. Both lie in storages of their own, made of the same rows.
aten.weight @emb : tensor<48x80xf32>
// CHECK: exec.storage @lm_head.sketch.rows.sketch {layout = #exec<layout sketch>, element = i1, shape = array<i64: 48, 80>, of = [@lm_head.sketch.rows, @lm_head.sketch.bias]}
// CHECK-NEXT: exec.storage @lm_head.sketch.rows.refinement {layout = #exec<layout refinement>, element = i2, shape = array<i64: 48, 80>, of = [@lm_head.sketch.rows]}
func.func @prefill(%x: tensor<1x80xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x48xf32> {
  %0 = spz.lm_head %x, @emb {module = "lm_head"} : tensor<1x80xf32> -> tensor<1x48xf32>
  func.return %0 : tensor<1x48xf32>
}
// A caller that wants all logits has the head read whole, but no more rows scored once more.
func.func @decode(%x: tensor<1x80xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x48xf32> {
  // CHECK: exec.program @decode
  // CHECK: exec.linear %x, @lm_head.sketch.axes.rows into [[AXES:%.*]] {module = "lm_head", bias = @lm_head.sketch.axes_bias.floats, part = #exec<part predictors>}
  // CHECK: exec.sketch [[AXES]], @lm_head.sketch.rows.sketch into [[SCORES:%.*]] {module = "lm_head"} : memref<1x81xf32>, memref<1x48xf32>
  // CHECK: exec.select [[SCORES]] into [[WORTH:%.*]] {module = "lm_head", count = 24 : i64, group = 48 : i64, probability = 1.000000e-03 : f64, density = 5.000000e-01 : f64, part
  // CHECK: exec.refine [[SCORES]], @lm_head.sketch.rows.refinement of [[WORTH]] by [[AXES]] : memref<1x49xf32>, memref<1x81xf32> into [[BETTER:%.*]] {module = "lm_head", offset = 2.500000e-01 : f64, density = 5.000000e-01 : f64} : memref<1x48xf32>, memref<1x48xf32>
  // CHECK: exec.select [[BETTER]] into [[CHOSEN:%.*]] {module = "lm_head", count = 4 : i64, group = 48 : i64, probability = 1.000000e-02 : f64, density = 2.500000e-01 : f64, or_all, part
  // CHECK: exec.sparse_head %x, @emb.rows of [[CHOSEN]] : memref<1x49xf32> else [[BETTER]] : memref<1x48xf32> into
  %0 = spz.lm_head %x, @emb {module = "lm_head", sparsity = #spz.sparsity<cascade, count = 4, probability = 0.01, density = 0.25, offset = 0.125, first_count = 24, first_probability = 0.001, first_density = 0.5, first_offset = 0.25>} : tensor<1x80xf32> -> tensor<1x48xf32>
  func.return %0 : tensor<1x48xf32>
}
