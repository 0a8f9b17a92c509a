// RUN: sparsecomp-opt %s -p shard --ranks 2 --rank 1 | filecheck %s
// A sketched head, here with a cascade, falls into rows of the vocabulary as a whole one does: each rank scores its own,
// and reads the best of them and what is probable among them. The axes of the sketch are everyone's.
aten.weight @emb : tensor<96x8xf32>
aten.weight @b : tensor<96xf32>
aten.weight @axes : tensor<9x8xf32>
aten.weight @rows : tensor<96x8xf32>
aten.weight @bias : tensor<96xf32>

func.func @prefill(%x: tensor<1x8xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x96xf32> {
  // CHECK: func.func @prefill
  // CHECK-NEXT: spz.lm_head %x, @emb.r1, @b.r1 : tensor<1x8xf32> -> tensor<1x48xf32>
  %0 = spz.lm_head %x, @emb, @b : tensor<1x8xf32> -> tensor<1x96xf32>
  func.return %0 : tensor<1x96xf32>
}

func.func @decode(%x: tensor<1x8xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x96xf32> {
  // CHECK: func.func @decode
  // CHECK-NEXT: %axes = spz.linear %x, @axes : tensor<1x8xf32> -> tensor<1x9xf32>
  // CHECK-NEXT: %scores = spz.sketch %axes, @rows.r1, @bias.r1 {bits = 1 : i64} : tensor<1x9xf32> -> tensor<1x48xf32>
  // CHECK-NEXT: %worth = spz.select %scores {count = 40 : i64, group = 48 : i64, density = 8.000000e-01 : f64, active = 8.000000e-01 : f64} : tensor<1x48xf32> -> tensor<1x48xi1>
  // CHECK-NEXT: %better = spz.refine %scores, %worth, %axes, @rows.r1 {offset = 2.500000e-01 : f64, density = 8.000000e-01 : f64} : tensor<1x48xf32>, tensor<1x48xi1>, tensor<1x9xf32> -> tensor<1x48xf32>
  // CHECK-NEXT: %chosen = spz.select %better {count = 48 : i64, group = 48 : i64, probability = 1.000000e-02 : f64, density = 6.250000e-01 : f64, active = 6.250000e-01 : f64} : tensor<1x48xf32> -> tensor<1x48xi1>
  // CHECK-NEXT: %logits = spz.sparse_head %x, %chosen, %better, @emb.r1, @b.r1 {offset = 1.250000e-01 : f64, density = 6.250000e-01 : f64} : tensor<1x8xf32>, tensor<1x48xi1>, tensor<1x48xf32> -> tensor<1x48xf32>
  // CHECK-NEXT: %capped = aten.tanh(%logits) : (tensor<1x48xf32>) -> tensor<1x48xf32>
  %axes = spz.linear %x, @axes : tensor<1x8xf32> -> tensor<1x9xf32>
  %scores = spz.sketch %axes, @rows, @bias {bits = 1 : i64} : tensor<1x9xf32> -> tensor<1x96xf32>
  %worth = spz.select %scores {count = 40 : i64, group = 96 : i64, density = 0.8, active = 0.8} : tensor<1x96xf32> -> tensor<1x96xi1>
  %better = spz.refine %scores, %worth, %axes, @rows {offset = 0.25, density = 0.8} : tensor<1x96xf32>, tensor<1x96xi1>, tensor<1x9xf32> -> tensor<1x96xf32>
  %chosen = spz.select %better {count = 60 : i64, group = 96 : i64, probability = 0.01, density = 0.625, active = 0.625} : tensor<1x96xf32> -> tensor<1x96xi1>
  %logits = spz.sparse_head %x, %chosen, %better, @emb, @b {offset = 0.125, density = 0.625} : tensor<1x8xf32>, tensor<1x96xi1>, tensor<1x96xf32> -> tensor<1x96xf32>
  %capped = aten.tanh(%logits) : (tensor<1x96xf32>) -> tensor<1x96xf32>
  func.return %capped : tensor<1x96xf32>
}
