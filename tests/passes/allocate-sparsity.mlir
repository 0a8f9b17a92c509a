// RUN: sparsecomp-opt %s -p allocate-sparsity --recipe %p/allocate-sparsity.yaml | filecheck %s
// A recipe leaves no choice: each block becomes what it says.
aten.weight @up : tensor<16x8xf32>
aten.weight @down : tensor<8x16xf32>
func.func @decode(%x: tensor<1x8xf32>) -> tensor<1x8xf32> {
  // CHECK: spz.mlp %x, @up, @down {module = "mlp.0", act
  %0 = spz.mlp %x, @up, @down {module = "mlp.0", act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  // CHECK: spz.mlp {{.*}} {module = "mlp.1", sparsity = #spz.sparsity<low_rank, rank = 2, density = 0.25, active = 0.1, threshold = -1.0, count = 0, group = 0, lookahead = 1>, act
  %1 = spz.mlp %0, @up, @down {module = "mlp.1", act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  // CHECK: spz.mlp {{.*}} {module = "mlp.2", sparsity = #spz.sparsity<cutoff, of = neuron, threshold = 0.0, density = 0.5>, act
  %2 = spz.mlp %1, @up, @down {module = "mlp.2", act = #spz<act relu>} : tensor<1x8xf32> -> tensor<1x8xf32>
  func.return %2 : tensor<1x8xf32>
}
