// RUN: sparsecomp-opt %s -p allocate-sparsity,insert-predictors,shard,quantize-weights,choose-layouts --dtype int8 --recipe %S/narrow.yaml | filecheck %s
// RUN: sparsecomp-opt %s -p allocate-sparsity,insert-predictors,shard,quantize-weights,choose-layouts --dtype int8 --recipe %S/narrow.yaml --ranks 2 --rank 1 | filecheck %s --check-prefix RANK
// A narrow block reads weights of its own in 6, 5 or 4 bits, which calibration rounds, in both
// functions, and each rank its part of them; an MLP of so few neurons that rows of down would be short
// stays in 8. Nothing is chosen.
aten.weight @q.weight : tensor<128x64xf32>
aten.weight @k.weight : tensor<128x64xf32>
aten.weight @v.weight : tensor<128x64xf32>
aten.weight @o.weight : tensor<64x128xf32>
aten.weight @gate.weight : tensor<192x64xf32>
aten.weight @up.weight : tensor<192x64xf32>
aten.weight @down.weight : tensor<64x192xf32>
aten.weight @fc1.weight : tensor<24x64xf32>
aten.weight @fc2.weight : tensor<64x24xf32>
func.func @prefill(%x: tensor<?x64xf32>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x64xf32> {
  %0 = spz.gated_mlp %x, @gate.weight, @up.weight, @down.weight {module = "mlp", act = #spz<act silu>} : tensor<?x64xf32> -> tensor<?x64xf32>
  %last = spz.last %0 : tensor<?x64xf32> -> tensor<1x64xf32>
  func.return %last : tensor<1x64xf32>
}
func.func @decode(%x: tensor<1x64xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x64xf32> {
  %0 = spz.linear %x, @q.weight {module = "attn.q"} : tensor<1x64xf32> -> tensor<1x128xf32>
  %q = aten.reshape(%0, shape = [1, 2, 64]) : (tensor<1x128xf32>) -> tensor<1x2x64xf32>
  %1 = spz.linear %x, @k.weight {module = "attn.k"} : tensor<1x64xf32> -> tensor<1x128xf32>
  %k = aten.reshape(%1, shape = [1, 2, 64]) : (tensor<1x128xf32>) -> tensor<1x2x64xf32>
  %2 = spz.linear %x, @v.weight {module = "attn.v"} : tensor<1x64xf32> -> tensor<1x128xf32>
  %v = aten.reshape(%2, shape = [1, 2, 64]) : (tensor<1x128xf32>) -> tensor<1x2x64xf32>
  %a = spz.cached_attention %q, %k, %v, %positions, %cache {module = "attn", slot = 0 : i64, scale = 1.250000e-01 : f64} : tensor<1x2x64xf32>, tensor<1x2x64xf32>, tensor<1x2x64xf32>, tensor<1xi64> -> tensor<1x2x64xf32>
  %3 = aten.reshape(%a, shape = [1, 128]) : (tensor<1x2x64xf32>) -> tensor<1x128xf32>
  %4 = spz.linear %3, @o.weight {module = "attn.o"} : tensor<1x128xf32> -> tensor<1x64xf32>
  %5 = spz.gated_mlp %4, @gate.weight, @up.weight, @down.weight {module = "mlp", act = #spz<act silu>} : tensor<1x64xf32> -> tensor<1x64xf32>
  %6 = spz.mlp %5, @fc1.weight, @fc2.weight {module = "short", act = #spz<act relu>} : tensor<1x64xf32> -> tensor<1x64xf32>
  func.return %6 : tensor<1x64xf32>
}
// CHECK:      aten.weight @gate.weight : tensor<192x64xf32> {stored = i8}
// CHECK-NEXT: aten.weight @up.weight : tensor<192x64xf32> {stored = i8}
// CHECK-NEXT: aten.weight @fc1.weight : tensor<24x64xf32> {stored = i8}
// CHECK-NEXT: aten.weight @fc2.weight : tensor<64x24xf32> {stored = i8}
// CHECK-NEXT: aten.weight @q.weight.in_6_bits : tensor<128x64xf32> {stored = i6}
// CHECK-NEXT: aten.weight @k.weight.in_6_bits : tensor<128x64xf32> {stored = i6}
// CHECK-NEXT: aten.weight @v.weight.in_6_bits : tensor<128x64xf32> {stored = i6}
// CHECK-NEXT: aten.weight @o.weight.in_4_bits : tensor<64x128xf32> {stored = i4}
// CHECK-NEXT: aten.weight @down.weight.in_5_bits : tensor<64x192xf32> {stored = i5}
// CHECK:      exec.storage @gate.weight.rows {layout = #exec<layout rows>, element = i8
// CHECK:      exec.storage @down.weight.in_5_bits.rows {layout = #exec<layout rows>, element = i5
// CHECK:      exec.storage @q.weight.in_6_bits.rows {layout = #exec<layout rows>, element = i6
// CHECK:      exec.storage @o.weight.in_4_bits.rows {layout = #exec<layout rows>, element = i4
// CHECK:      exec.storage @short.neurons {layout = #exec<layout neuron_major>, element = i8
// CHECK:      func.func @prefill
// CHECK-NEXT: spz.gated_mlp %x, @gate.weight, @up.weight, @down.weight.in_5_bits
// CHECK:      func.func @decode
// CHECK-NOT:  sparsity

// RANK: exec.storage @gate.weight.r1.rows {{.*}} element = i8
// RANK: exec.storage @down.weight.in_5_bits.r1.rows {{.*}} element = i5, shape = array<i64: 64, 96>
// RANK: exec.storage @q.weight.in_6_bits.r1.rows {{.*}} element = i6, shape = array<i64: 64, 64>
// RANK: exec.storage @k.weight.in_6_bits.r1.rows {{.*}} element = i6
// RANK: exec.storage @o.weight.in_4_bits.r1.rows {{.*}} element = i4, shape = array<i64: 64, 64>
