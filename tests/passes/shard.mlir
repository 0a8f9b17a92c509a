// RUN: sparsecomp-opt %s -p shard --ranks 2 --rank 0 | filecheck %s --check-prefix FIRST
// RUN: sparsecomp-opt %s -p shard --ranks 2 --rank 1 | filecheck %s --check-prefix SECOND
// RUN: sparsecomp-opt %s -p shard --ranks 4 --rank 3 | filecheck %s --check-prefix EMPTY

// Each rank has its own neurons, heads and rows of the vocabulary, and adds up with the others what
// it makes of them. What would mix heads stays whole.
aten.weight @table : tensor<20x12xf32>
aten.weight @cos : tensor<64x2xf32>
aten.weight @sin : tensor<64x2xf32>
aten.weight @q.weight : tensor<12x12xf32>
aten.weight @q.bias : tensor<12xf32>
aten.weight @k.weight : tensor<6x12xf32>
aten.weight @v.weight : tensor<6x12xf32>
aten.weight @o.weight : tensor<12x12xf32>
aten.weight @o.bias : tensor<12xf32>
aten.weight @norm.weight : tensor<12xf32>
aten.weight @sinks : tensor<6xf32>
aten.weight @gate.weight : tensor<10x12xf32>
aten.weight @up.weight : tensor<10x12xf32>
aten.weight @down.weight : tensor<12x10xf32>
aten.weight @down.bias : tensor<12xf32>
aten.weight @fc1.weight : tensor<12x12xf32>
aten.weight @fc2.weight : tensor<12x12xf32>
aten.weight @p.down : tensor<2x12xf32>
aten.weight @p.up : tensor<12x2xf32>
aten.weight @p.bias : tensor<12xf32>

func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x20xf32> {
  %x = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x12xf32>
  // The neurons that @decode keeps together stay together here.
  %y = spz.mlp %x, @fc1.weight, @fc2.weight {module = "sparse", act = #spz<act relu>} : tensor<?x12xf32> -> tensor<?x12xf32>
  %last = spz.last %y : tensor<?x12xf32> -> tensor<1x12xf32>
  %logits = spz.lm_head %last, @table : tensor<1x12xf32> -> tensor<1x20xf32>
  func.return %logits : tensor<1x20xf32>
}

func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x20xf32> {
  %x = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x12xf32>
  // 6 heads in 3 groups: 2 groups on rank 0, 1 on rank 1.
  %0 = spz.linear %x, @q.weight, @q.bias {module = "attn.q"} : tensor<1x12xf32> -> tensor<1x12xf32>
  %1 = aten.reshape(%0, shape = [1, 6, 2]) : (tensor<1x12xf32>) -> tensor<1x6x2xf32>
  %q = spz.rope %1, %positions, @cos, @sin {rotary = 2 : i64, pairing = #spz<pairing half>} : tensor<1x6x2xf32>, tensor<1xi64> -> tensor<1x6x2xf32>
  %2 = spz.linear %x, @k.weight : tensor<1x12xf32> -> tensor<1x6xf32>
  %k = aten.reshape(%2, shape = [1, 3, 2]) : (tensor<1x6xf32>) -> tensor<1x3x2xf32>
  %3 = spz.linear %x, @v.weight : tensor<1x12xf32> -> tensor<1x6xf32>
  %v = aten.reshape(%3, shape = [1, 3, 2]) : (tensor<1x6xf32>) -> tensor<1x3x2xf32>
  %4 = spz.cached_attention %q, %k, %v, %positions, %cache {slot = 0 : i64, scale = 1.0 : f64, sinks = @sinks} : tensor<1x6x2xf32>, tensor<1x3x2xf32>, tensor<1x3x2xf32>, tensor<1xi64> -> tensor<1x6x2xf32>
  %5 = aten.reshape(%4, shape = [1, 12]) : (tensor<1x6x2xf32>) -> tensor<1x12xf32>
  %o = spz.linear %5, @o.weight, @o.bias {module = "attn.o"} : tensor<1x12xf32> -> tensor<1x12xf32>
  // A norm over all heads at once: this attention stays whole.
  %6 = spz.linear %o, @q.weight : tensor<1x12xf32> -> tensor<1x12xf32>
  %7 = spz.rms_norm %6, @norm.weight {eps = 1.000000e-05 : f64} : tensor<1x12xf32> -> tensor<1x12xf32>
  %8 = aten.reshape(%7, shape = [1, 6, 2]) : (tensor<1x12xf32>) -> tensor<1x6x2xf32>
  %9 = spz.cached_attention %8, %8, %8, %positions, %cache {slot = 1 : i64, scale = 1.0 : f64} : tensor<1x6x2xf32>, tensor<1x6x2xf32>, tensor<1x6x2xf32>, tensor<1xi64> -> tensor<1x6x2xf32>
  %10 = aten.reshape(%9, shape = [1, 12]) : (tensor<1x6x2xf32>) -> tensor<1x12xf32>
  %mlp = spz.gated_mlp %10, @gate.weight, @up.weight, @down.weight {module = "mlp", down_bias = @down.bias, act = #spz<act silu>} : tensor<1x12xf32> -> tensor<1x12xf32>
  %scores = spz.predict %mlp, @p.down, @p.up, @p.bias {lookahead = 0 : i64} : tensor<1x12xf32> -> tensor<1x12xf32>
  %kept = spz.select %scores {count = 1 : i64, group = 6 : i64, density = 1.0 : f64, active = 1.0 : f64} : tensor<1x12xf32> -> tensor<1x12xi1>
  %sparse = spz.sparse_mlp %mlp, %kept {module = "sparse", up = @fc1.weight, down = @fc2.weight, act = #spz<act relu>, density = 1.0 : f64, active = 1.0 : f64} : tensor<1x12xf32>, tensor<1x12xi1> -> tensor<1x12xf32>
  %logits = spz.lm_head %sparse, @table : tensor<1x12xf32> -> tensor<1x20xf32>
  %scaled = aten.mul.Scalar(%logits, other = 0.5) : (tensor<1x20xf32>) -> tensor<1x20xf32>
  func.return %scaled : tensor<1x20xf32>
}

// The larger share, and the biases of sums.
// FIRST:        aten.derived @q.weight.r0 : tensor<8x12xf32> {
// FIRST-NEXT:     %0 = aten.get @q.weight : tensor<12x12xf32>
// FIRST-NEXT:     %1 = aten.slice.Tensor(%0, start = 0, end = 8) : (tensor<12x12xf32>) -> tensor<8x12xf32>
// FIRST-NEXT:     aten.yield %1 : tensor<8x12xf32>
// FIRST-NEXT:   }
// FIRST:        aten.derived @k.weight.r0 : tensor<4x12xf32> {
// FIRST-NEXT:     %0 = aten.get @k.weight : tensor<6x12xf32>
// FIRST-NEXT:     %1 = aten.slice.Tensor(%0, start = 0, end = 4) : (tensor<6x12xf32>) -> tensor<4x12xf32>
// FIRST-NEXT:     aten.yield %1 : tensor<4x12xf32>
// FIRST-NEXT:   }
// FIRST:        aten.derived @sinks.r0 : tensor<4xf32> {
// FIRST-NEXT:     %0 = aten.get @sinks : tensor<6xf32>
// FIRST-NEXT:     %1 = aten.slice.Tensor(%0, start = 0, end = 4) : (tensor<6xf32>) -> tensor<4xf32>
// FIRST-NEXT:     aten.yield %1 : tensor<4xf32>
// FIRST-NEXT:   }
// FIRST:        aten.derived @o.weight.r0 : tensor<12x8xf32> {
// FIRST-NEXT:     %0 = aten.get @o.weight : tensor<12x12xf32>
// FIRST-NEXT:     %1 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 8) : (tensor<12x12xf32>) -> tensor<12x8xf32>
// FIRST-NEXT:     aten.yield %1 : tensor<12x8xf32>
// FIRST-NEXT:   }
// FIRST:        aten.derived @down.weight.r0 : tensor<12x8xf32> {
// FIRST-NEXT:     %0 = aten.get @down.weight : tensor<12x10xf32>
// FIRST-NEXT:     %1 = aten.slice.Tensor(%0, dim = 1, start = 0, end = 8) : (tensor<12x10xf32>) -> tensor<12x8xf32>
// FIRST-NEXT:     aten.yield %1 : tensor<12x8xf32>
// FIRST-NEXT:   }
// FIRST:        aten.derived @p.up.r0 : tensor<6x2xf32> {
// FIRST-NEXT:     %0 = aten.get @p.up : tensor<12x2xf32>
// FIRST-NEXT:     %1 = aten.slice.Tensor(%0, start = 0, end = 6) : (tensor<12x2xf32>) -> tensor<6x2xf32>
// FIRST-NEXT:     aten.yield %1 : tensor<6x2xf32>
// FIRST-NEXT:   }
// FIRST:        func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x10xf32> {
// FIRST-NEXT:     %x = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x12xf32>
// FIRST-NEXT:     %y = spz.mlp %x, @fc1.weight.r0, @fc2.weight.r0 {module = "sparse", act = #spz<act relu>} : tensor<?x12xf32> -> tensor<?x12xf32>
// FIRST-NEXT:     %y_1 = spz.all_reduce %y : tensor<?x12xf32> {module = "sparse"} -> tensor<?x12xf32>
// FIRST-NEXT:     %last = spz.last %y_1 : tensor<?x12xf32> -> tensor<1x12xf32>
// FIRST-NEXT:     %logits = spz.lm_head %last, @table.r0 : tensor<1x12xf32> -> tensor<1x10xf32>
// FIRST-NEXT:     func.return %logits : tensor<1x10xf32>
// FIRST-NEXT:   }
// FIRST-NEXT:   func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x10xf32> {
// FIRST-NEXT:     %x = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x12xf32>
// FIRST-NEXT:     %0 = spz.linear %x, @q.weight.r0, @q.bias.r0 {module = "attn.q"} : tensor<1x12xf32> -> tensor<1x8xf32>
// FIRST-NEXT:     %1 = aten.reshape(%0, shape = [1, 4, 2]) : (tensor<1x8xf32>) -> tensor<1x4x2xf32>
// FIRST-NEXT:     %q = spz.rope %1, %positions, @cos, @sin {rotary = 2 : i64, pairing = #spz<pairing half>} : tensor<1x4x2xf32>, tensor<1xi64> -> tensor<1x4x2xf32>
// FIRST-NEXT:     %2 = spz.linear %x, @k.weight.r0 : tensor<1x12xf32> -> tensor<1x4xf32>
// FIRST-NEXT:     %k = aten.reshape(%2, shape = [1, 2, 2]) : (tensor<1x4xf32>) -> tensor<1x2x2xf32>
// FIRST-NEXT:     %3 = spz.linear %x, @v.weight.r0 : tensor<1x12xf32> -> tensor<1x4xf32>
// FIRST-NEXT:     %v = aten.reshape(%3, shape = [1, 2, 2]) : (tensor<1x4xf32>) -> tensor<1x2x2xf32>
// FIRST-NEXT:     %4 = spz.cached_attention %q, %k, %v, %positions, %cache {slot = 0 : i64, scale = 1.000000e+00 : f64, sinks = @sinks.r0} : tensor<1x4x2xf32>, tensor<1x2x2xf32>, tensor<1x2x2xf32>, tensor<1xi64> -> tensor<1x4x2xf32>
// FIRST-NEXT:     %5 = aten.reshape(%4, shape = [1, 8]) : (tensor<1x4x2xf32>) -> tensor<1x8xf32>
// FIRST-NEXT:     %o = spz.linear %5, @o.weight.r0, @o.bias {module = "attn.o"} : tensor<1x8xf32> -> tensor<1x12xf32>
// FIRST-NEXT:     %o_1 = spz.all_reduce %o : tensor<1x12xf32> {module = "attn.o"} -> tensor<1x12xf32>
// FIRST-NEXT:     %6 = spz.linear %o_1, @q.weight : tensor<1x12xf32> -> tensor<1x12xf32>
// FIRST-NEXT:     %7 = spz.rms_norm %6, @norm.weight {eps = 1.000000e-05 : f64} : tensor<1x12xf32> -> tensor<1x12xf32>
// FIRST-NEXT:     %8 = aten.reshape(%7, shape = [1, 6, 2]) : (tensor<1x12xf32>) -> tensor<1x6x2xf32>
// FIRST-NEXT:     %9 = spz.cached_attention %8, %8, %8, %positions, %cache {slot = 1 : i64, scale = 1.000000e+00 : f64} : tensor<1x6x2xf32>, tensor<1x6x2xf32>, tensor<1x6x2xf32>, tensor<1xi64> -> tensor<1x6x2xf32>
// FIRST-NEXT:     %10 = aten.reshape(%9, shape = [1, 12]) : (tensor<1x6x2xf32>) -> tensor<1x12xf32>
// FIRST-NEXT:     %mlp = spz.gated_mlp %10, @gate.weight.r0, @up.weight.r0, @down.weight.r0 {module = "mlp", down_bias = @down.bias, act = #spz<act silu>} : tensor<1x12xf32> -> tensor<1x12xf32>
// FIRST-NEXT:     %mlp_1 = spz.all_reduce %mlp : tensor<1x12xf32> {module = "mlp"} -> tensor<1x12xf32>
// FIRST-NEXT:     %scores = spz.predict %mlp_1, @p.down, @p.up.r0, @p.bias.r0 {lookahead = 0 : i64} : tensor<1x12xf32> -> tensor<1x6xf32>
// FIRST-NEXT:     %kept = spz.select %scores {count = 1 : i64, group = 6 : i64, density = 1.000000e+00 : f64, active = 1.000000e+00 : f64} : tensor<1x6xf32> -> tensor<1x6xi1>
// FIRST-NEXT:     %sparse = spz.sparse_mlp %mlp_1, %kept {module = "sparse", up = @fc1.weight.r0, down = @fc2.weight.r0, act = #spz<act relu>, density = 1.000000e+00 : f64, active = 1.000000e+00 : f64} : tensor<1x12xf32>, tensor<1x6xi1> -> tensor<1x12xf32>
// FIRST-NEXT:     %sparse_1 = spz.all_reduce %sparse : tensor<1x12xf32> {module = "sparse"} -> tensor<1x12xf32>
// FIRST-NEXT:     %logits = spz.lm_head %sparse_1, @table.r0 : tensor<1x12xf32> -> tensor<1x10xf32>
// FIRST-NEXT:     %scaled = aten.mul.Scalar(%logits, other = 0.5) : (tensor<1x10xf32>) -> tensor<1x10xf32>
// FIRST-NEXT:     func.return %scaled : tensor<1x10xf32>
// FIRST-NEXT:   }

// The other share.
// SECOND:        aten.derived @q.weight.r1 : tensor<4x12xf32> {
// SECOND-NEXT:     %0 = aten.get @q.weight : tensor<12x12xf32>
// SECOND-NEXT:     %1 = aten.slice.Tensor(%0, start = 8, end = 12) : (tensor<12x12xf32>) -> tensor<4x12xf32>
// SECOND-NEXT:     aten.yield %1 : tensor<4x12xf32>
// SECOND-NEXT:   }
// SECOND:        aten.derived @o.weight.r1 : tensor<12x4xf32> {
// SECOND-NEXT:     %0 = aten.get @o.weight : tensor<12x12xf32>
// SECOND-NEXT:     %1 = aten.slice.Tensor(%0, dim = 1, start = 8, end = 12) : (tensor<12x12xf32>) -> tensor<12x4xf32>
// SECOND-NEXT:     aten.yield %1 : tensor<12x4xf32>
// SECOND-NEXT:   }
// SECOND:        aten.derived @down.weight.r1 : tensor<12x2xf32> {
// SECOND-NEXT:     %0 = aten.get @down.weight : tensor<12x10xf32>
// SECOND-NEXT:     %1 = aten.slice.Tensor(%0, dim = 1, start = 8, end = 10) : (tensor<12x10xf32>) -> tensor<12x2xf32>
// SECOND-NEXT:     aten.yield %1 : tensor<12x2xf32>
// SECOND-NEXT:   }
// SECOND:        aten.derived @p.bias.r1 : tensor<6xf32> {
// SECOND-NEXT:     %0 = aten.get @p.bias : tensor<12xf32>
// SECOND-NEXT:     %1 = aten.slice.Tensor(%0, start = 6, end = 12) : (tensor<12xf32>) -> tensor<6xf32>
// SECOND-NEXT:     aten.yield %1 : tensor<6xf32>
// SECOND-NEXT:   }
// SECOND:        func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x10xf32> {
// SECOND-NEXT:     %x = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x12xf32>
// SECOND-NEXT:     %y = spz.mlp %x, @fc1.weight.r1, @fc2.weight.r1 {module = "sparse", act = #spz<act relu>} : tensor<?x12xf32> -> tensor<?x12xf32>
// SECOND-NEXT:     %y_1 = spz.all_reduce %y : tensor<?x12xf32> {module = "sparse"} -> tensor<?x12xf32>
// SECOND-NEXT:     %last = spz.last %y_1 : tensor<?x12xf32> -> tensor<1x12xf32>
// SECOND-NEXT:     %logits = spz.lm_head %last, @table.r1 : tensor<1x12xf32> -> tensor<1x10xf32>
// SECOND-NEXT:     func.return %logits : tensor<1x10xf32>
// SECOND-NEXT:   }
// SECOND-NEXT:   func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x10xf32> {
// SECOND-NEXT:     %x = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x12xf32>
// SECOND-NEXT:     %0 = spz.linear %x, @q.weight.r1, @q.bias.r1 {module = "attn.q"} : tensor<1x12xf32> -> tensor<1x4xf32>
// SECOND-NEXT:     %1 = aten.reshape(%0, shape = [1, 2, 2]) : (tensor<1x4xf32>) -> tensor<1x2x2xf32>
// SECOND-NEXT:     %q = spz.rope %1, %positions, @cos, @sin {rotary = 2 : i64, pairing = #spz<pairing half>} : tensor<1x2x2xf32>, tensor<1xi64> -> tensor<1x2x2xf32>
// SECOND-NEXT:     %2 = spz.linear %x, @k.weight.r1 : tensor<1x12xf32> -> tensor<1x2xf32>
// SECOND-NEXT:     %k = aten.reshape(%2, shape = [1, 1, 2]) : (tensor<1x2xf32>) -> tensor<1x1x2xf32>
// SECOND-NEXT:     %3 = spz.linear %x, @v.weight.r1 : tensor<1x12xf32> -> tensor<1x2xf32>
// SECOND-NEXT:     %v = aten.reshape(%3, shape = [1, 1, 2]) : (tensor<1x2xf32>) -> tensor<1x1x2xf32>
// SECOND-NEXT:     %4 = spz.cached_attention %q, %k, %v, %positions, %cache {slot = 0 : i64, scale = 1.000000e+00 : f64, sinks = @sinks.r1} : tensor<1x2x2xf32>, tensor<1x1x2xf32>, tensor<1x1x2xf32>, tensor<1xi64> -> tensor<1x2x2xf32>
// SECOND-NEXT:     %5 = aten.reshape(%4, shape = [1, 4]) : (tensor<1x2x2xf32>) -> tensor<1x4xf32>
// SECOND-NEXT:     %o = spz.linear %5, @o.weight.r1 {module = "attn.o"} : tensor<1x4xf32> -> tensor<1x12xf32>
// SECOND-NEXT:     %o_1 = spz.all_reduce %o : tensor<1x12xf32> {module = "attn.o"} -> tensor<1x12xf32>
// SECOND-NEXT:     %6 = spz.linear %o_1, @q.weight : tensor<1x12xf32> -> tensor<1x12xf32>
// SECOND-NEXT:     %7 = spz.rms_norm %6, @norm.weight {eps = 1.000000e-05 : f64} : tensor<1x12xf32> -> tensor<1x12xf32>
// SECOND-NEXT:     %8 = aten.reshape(%7, shape = [1, 6, 2]) : (tensor<1x12xf32>) -> tensor<1x6x2xf32>
// SECOND-NEXT:     %9 = spz.cached_attention %8, %8, %8, %positions, %cache {slot = 1 : i64, scale = 1.000000e+00 : f64} : tensor<1x6x2xf32>, tensor<1x6x2xf32>, tensor<1x6x2xf32>, tensor<1xi64> -> tensor<1x6x2xf32>
// SECOND-NEXT:     %10 = aten.reshape(%9, shape = [1, 12]) : (tensor<1x6x2xf32>) -> tensor<1x12xf32>
// SECOND-NEXT:     %mlp = spz.gated_mlp %10, @gate.weight.r1, @up.weight.r1, @down.weight.r1 {module = "mlp", act = #spz<act silu>} : tensor<1x12xf32> -> tensor<1x12xf32>
// SECOND-NEXT:     %mlp_1 = spz.all_reduce %mlp : tensor<1x12xf32> {module = "mlp"} -> tensor<1x12xf32>
// SECOND-NEXT:     %scores = spz.predict %mlp_1, @p.down, @p.up.r1, @p.bias.r1 {lookahead = 0 : i64} : tensor<1x12xf32> -> tensor<1x6xf32>
// SECOND-NEXT:     %kept = spz.select %scores {count = 1 : i64, group = 6 : i64, density = 1.000000e+00 : f64, active = 1.000000e+00 : f64} : tensor<1x6xf32> -> tensor<1x6xi1>
// SECOND-NEXT:     %sparse = spz.sparse_mlp %mlp_1, %kept {module = "sparse", up = @fc1.weight.r1, down = @fc2.weight.r1, act = #spz<act relu>, density = 1.000000e+00 : f64, active = 1.000000e+00 : f64} : tensor<1x12xf32>, tensor<1x6xi1> -> tensor<1x12xf32>
// SECOND-NEXT:     %sparse_1 = spz.all_reduce %sparse : tensor<1x12xf32> {module = "sparse"} -> tensor<1x12xf32>
// SECOND-NEXT:     %logits = spz.lm_head %sparse_1, @table.r1 : tensor<1x12xf32> -> tensor<1x10xf32>
// SECOND-NEXT:     %scaled = aten.mul.Scalar(%logits, other = 0.5) : (tensor<1x10xf32>) -> tensor<1x10xf32>
// SECOND-NEXT:     func.return %scaled : tensor<1x10xf32>
// SECOND-NEXT:   }

// A rank without heads and neurons takes part in the sums all the same. An attention that is not split
// writes its cache, whoever reads what it gives.
// EMPTY:        func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x5xf32> {
// EMPTY-NEXT:     %y = spz.all_reduce {module = "sparse"} -> tensor<?x12xf32>
// EMPTY-NEXT:     %last = spz.last %y : tensor<?x12xf32> -> tensor<1x12xf32>
// EMPTY-NEXT:     %logits = spz.lm_head %last, @table.r3 : tensor<1x12xf32> -> tensor<1x5xf32>
// EMPTY-NEXT:     func.return %logits : tensor<1x5xf32>
// EMPTY-NEXT:   }
// EMPTY-NEXT:   func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x5xf32> {
// EMPTY-NEXT:     %o = spz.all_reduce {module = "attn.o"} -> tensor<1x12xf32>
// EMPTY-NEXT:     %{{.*}} = spz.linear %o, @q.weight : tensor<1x12xf32> -> tensor<1x12xf32>
// EMPTY-NEXT:     %{{.*}} = spz.rms_norm %{{.*}}, @norm.weight {eps = 1.000000e-05 : f64} : tensor<1x12xf32> -> tensor<1x12xf32>
// EMPTY-NEXT:     %{{.*}} = aten.reshape(%{{.*}}, shape = [1, 6, 2]) : (tensor<1x12xf32>) -> tensor<1x6x2xf32>
// EMPTY-NEXT:     %{{.*}} = spz.cached_attention {{.*}} -> tensor<1x6x2xf32>
// EMPTY-NEXT:     %mlp = spz.all_reduce {module = "mlp"} -> tensor<1x12xf32>
// EMPTY-NEXT:     %sparse = spz.all_reduce {module = "sparse"} -> tensor<1x12xf32>
// EMPTY-NEXT:     %logits = spz.lm_head %sparse, @table.r3 : tensor<1x12xf32> -> tensor<1x5xf32>
// EMPTY-NEXT:     %scaled = aten.mul.Scalar(%logits, other = 0.5) : (tensor<1x5xf32>) -> tensor<1x5xf32>
// EMPTY-NEXT:     func.return %scaled : tensor<1x5xf32>
// EMPTY-NEXT:   }
