// RUN: not sparsecomp-opt %s -p derive-decode 2>&1 | filecheck %s

// A pass that is called out of order says what it needs.
// CHECK: error: pass derive-decode needs values as rows of tokens, but func.func is not
func.func @forward(%ids: tensor<1x?xi64>) -> tensor<1x?xi64> {
  func.return %ids : tensor<1x?xi64>
}
