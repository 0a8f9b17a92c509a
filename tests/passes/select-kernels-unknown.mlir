// RUN: not sparsecomp-opt %s -p choose-layouts,select-kernels 2>&1 | filecheck %s

// An op that no kernel computes is refused by name and place.
// CHECK: error: aten.cumsum in model.layers.0.moe: has no native kernel
aten.weight @table : tensor<16x8xf32>
func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<?x8xf32> {
  %x = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x8xf32>
  %y = aten.cumsum(%x, dim = 1) : (tensor<?x8xf32>) -> tensor<?x8xf32> {module = "model.layers.0.moe"}
  func.return %y : tensor<?x8xf32>
}
func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x8xf32> {
  %x = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x8xf32>
  func.return %x : tensor<1x8xf32>
}
