// RUN: sparsecomp-opt %s -p quantize-weights,choose-layouts --dtype int8 | filecheck %s
// RUN: sparsecomp-opt %s -p quantize-weights,choose-layouts --dtype int4 | filecheck %s --check-prefix INT4
// RUN: sparsecomp-opt %s -p quantize-weights,choose-layouts --dtype int8 --recipe %S/quantize-weights.yaml | filecheck %s --check-prefix WIDER
// RUN: sparsecomp-opt %s -p quantize-weights,choose-layouts --dtype bf16 | filecheck %s --check-prefix BF16

// Matrices are quantised, those of an MLP alike, which then lie as those of linears; norms are not, and rows so short that their
// padding would cost more than is saved.
aten.weight @table : tensor<16x64xf32>
aten.weight @norm.weight : tensor<64xf32>
aten.weight @short.weight : tensor<64x24xf32>
aten.weight @wide.weight : tensor<24x64xf32>
aten.weight @mlp.up.weight : tensor<96x64xf32>
aten.weight @mlp.down.weight : tensor<64x96xf32>
aten.weight @head.weight : tensor<16x64xf32>
func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32> {
  %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x64xf32>
  %1 = spz.last %0 : tensor<?x64xf32> -> tensor<1x64xf32>
  %2 = spz.lm_head %1, @head.weight : tensor<1x64xf32> -> tensor<1x16xf32>
  func.return %2 : tensor<1x16xf32>
}
func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32> {
  %0 = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x64xf32>
  %1 = spz.rms_norm %0, @norm.weight {eps = 1.000000e-05 : f64} : tensor<1x64xf32> -> tensor<1x64xf32>
  %2 = spz.linear %1, @wide.weight {module = "wide"} : tensor<1x64xf32> -> tensor<1x24xf32>
  %3 = spz.linear %2, @short.weight {module = "short"} : tensor<1x24xf32> -> tensor<1x64xf32>
  %4 = spz.mlp %3, @mlp.up.weight, @mlp.down.weight {module = "mlp", act = #spz<act relu>} : tensor<1x64xf32> -> tensor<1x64xf32>
  %5 = spz.lm_head %4, @head.weight {module = "head"} : tensor<1x64xf32> -> tensor<1x16xf32>
  func.return %5 : tensor<1x16xf32>
}
// CHECK:      aten.weight @table : tensor<16x64xf32> {stored = i8}
// CHECK-NEXT: aten.weight @norm.weight : tensor<64xf32>
// CHECK-NOT:  stored
// CHECK:      aten.weight @short.weight : tensor<64x24xf32>
// CHECK-NEXT: aten.weight @wide.weight : tensor<24x64xf32> {stored = i8}
// CHECK-NEXT: aten.weight @mlp.up.weight : tensor<96x64xf32> {stored = i8}
// CHECK-NEXT: aten.weight @mlp.down.weight : tensor<64x96xf32> {stored = i8}
// CHECK-NEXT: aten.weight @head.weight : tensor<16x64xf32> {stored = i8}
// CHECK:      exec.storage @table.rows {layout = #exec<layout rows>, element = i8
// CHECK-NEXT: exec.storage @head.weight.rows {layout = #exec<layout rows>, element = i8
// CHECK-NEXT: exec.storage @norm.weight.floats {layout = #exec<layout floats>, element = f32
// CHECK-NEXT: exec.storage @wide.weight.rows {layout = #exec<layout rows>, element = i8
// CHECK-NEXT: exec.storage @short.weight.rows {layout = #exec<layout rows>, element = bf16
// CHECK-NEXT: exec.storage @mlp.up.weight.rows {layout = #exec<layout rows>, element = i8
// CHECK-NEXT: exec.storage @mlp.down.weight.rows {layout = #exec<layout rows>, element = i8

// INT4:       exec.storage @table.rows {layout = #exec<layout rows>, element = i4
// INT4:       exec.storage @short.weight.rows {layout = #exec<layout rows>, element = i4
// INT4-NEXT:  exec.storage @mlp.up.weight.rows {layout = #exec<layout rows>, element = i4

// WIDER:      exec.storage @table.rows {layout = #exec<layout rows>, element = i8
// WIDER-NEXT: exec.storage @head.weight.rows {layout = #exec<layout rows>, element = bf16
// WIDER:      exec.storage @wide.weight.rows {layout = #exec<layout rows>, element = i8
// WIDER:      exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = bf16

// BF16-NOT:   stored
// BF16:       exec.storage @table.rows {layout = #exec<layout rows>, element = bf16
