// RUN: not sparsecomp-opt %s -p raise-attention 2>&1 | filecheck %s

// Every other token: causal, but nothing that attention supports.
// CHECK: error: aten.scaled_dot_product_attention in attn: its mask is neither causal, a sliding window nor chunks
func.func @forward(%x: tensor<1x2x?x8xf32>) -> tensor<1x2x?x8xf32> {
  %i = aten.arange(end = s) : () -> tensor<?xi64>
  %p = aten.reshape(%i, shape = [s, 1]) : (tensor<?xi64>) -> tensor<?x1xi64>
  %d = aten.sub.Tensor(%p, %i) : (tensor<?x1xi64>, tensor<?xi64>) -> tensor<?x?xi64>
  %a = aten.ge.Scalar(%d, other = 0) : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %r = aten.remainder.Scalar(%d, other = 2) : (tensor<?x?xi64>) -> tensor<?x?xi64>
  %b = aten.eq.Scalar(%r, other = 0) : (tensor<?x?xi64>) -> tensor<?x?xi1>
  %m = aten.__and__.Tensor(%a, %b) : (tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x?xi1>
  %0 = aten.scaled_dot_product_attention(%x, %x, %x, attn_mask = %m) : (tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<?x?xi1>) -> tensor<1x2x?x8xf32> {module = "attn"}
  func.return %0 : tensor<1x2x?x8xf32>
}
