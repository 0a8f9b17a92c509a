// RUN: sparsecomp-opt %s --verify-roundtrip | filecheck %s
// CHECK: builtin.module
aten.weight @model.embed.weight : tensor<16x4xf32>
aten.derived @cos : tensor<?x4xf32> {
  %0 = aten.get @model.embed.weight : tensor<16x4xf32>
  %1 = aten.slice.Tensor(%0, end = s) : (tensor<16x4xf32>) -> tensor<?x4xf32>
  %2 = aten.cos(%1) : (tensor<?x4xf32>) -> tensor<?x4xf32> {module = "rotary"}
  aten.yield %2 : tensor<?x4xf32>
}
