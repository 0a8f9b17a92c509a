// RUN: not sparsecomp-opt %s -p raise-attention 2>&1 | filecheck %s

// A mask that lets a token see the one after it.
// CHECK: error: aten.scaled_dot_product_attention in attn: its mask is not causal: a token would see later tokens
func.func @forward(%x: tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {
  %0 = aten.ones(size = [s, s], dtype = i1) : () -> tensor<?x?xi1>
  %1 = aten.tril(%0, diagonal = 1) : (tensor<?x?xi1>) -> tensor<?x?xi1>
  %2 = aten.scaled_dot_product_attention(%x, %x, %x, attn_mask = %1) : (tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<?x?xi1>) -> tensor<1x2x?x8xf32> {module = "attn"}
  func.return %2 : tensor<1x2x?x8xf32>
}
