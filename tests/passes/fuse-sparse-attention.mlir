// RUN: sparsecomp-opt %s -p fuse-sparse-attention | filecheck %s

// Heads that are not selected cost no query and no output projection.
aten.weight @q.weight : tensor<8x8xf32>
aten.weight @q.bias : tensor<8xf32>
aten.weight @k.weight : tensor<8x8xf32>
aten.weight @o.weight : tensor<8x8xf32>
aten.weight @o.bias : tensor<8xf32>
aten.weight @norm.weight : tensor<4xf32>
aten.weight @cos : tensor<64x4xf32>
aten.weight @sin : tensor<64x4xf32>
aten.weight @scale : tensor<2x1xf32>

func.func @plain(%x: tensor<1x8xf32>, %scores: tensor<1x2xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x8xf32> {
  %kept = spz.select %scores {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x2xf32> -> tensor<1x2xi1>
  %0 = spz.linear %x, @q.weight, @q.bias {module = "q"} : tensor<1x8xf32> -> tensor<1x8xf32>
  %q = aten.reshape(%0, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
  %1 = spz.linear %x, @k.weight : tensor<1x8xf32> -> tensor<1x8xf32>
  %k = aten.reshape(%1, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
  %a = spz.cached_attention %q, %k, %k, %positions, %cache keeping %kept : tensor<1x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
  %2 = aten.reshape(%a, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
  %3 = spz.linear %2, @o.weight, @o.bias {module = "o"} : tensor<1x8xf32> -> tensor<1x8xf32>
  func.return %3 : tensor<1x8xf32>
}
// CHECK-LABEL: func.func @plain(%x: tensor<1x8xf32>, %scores: tensor<1x2xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x8xf32> {
// CHECK-NEXT:    %kept = spz.select %scores {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x2xf32> -> tensor<1x2xi1>
// CHECK-NEXT:    %0 = spz.sparse_linear %x, %kept, @q.weight, @q.bias {module = "q", side = #spz<side outputs>, density = 5.000000e-01 : f64} : tensor<1x8xf32>, tensor<1x2xi1> -> tensor<1x8xf32>
// CHECK-NEXT:    %q = aten.reshape(%0, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %1 = spz.linear %x, @k.weight : tensor<1x8xf32> -> tensor<1x8xf32>
// CHECK-NEXT:    %k = aten.reshape(%1, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %a = spz.cached_attention %q, %k, %k, %positions, %cache keeping %kept : tensor<1x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
// CHECK-NEXT:    %2 = aten.reshape(%a, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
// CHECK-NEXT:    %3 = spz.sparse_linear %2, %kept, @o.weight, @o.bias {module = "o", side = #spz<side inputs>, density = 5.000000e-01 : f64} : tensor<1x8xf32>, tensor<1x2xi1> -> tensor<1x8xf32>
// CHECK-NEXT:    func.return %3 : tensor<1x8xf32>

// What treats each head alone may stand between; a selection that is made later is waited for.
func.func @turned(%x: tensor<1x8xf32>, %scores: tensor<1x2xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x8xf32> {
  %0 = spz.linear %x, @q.weight {module = "q"} : tensor<1x8xf32> -> tensor<1x8xf32>
  %1 = aten.reshape(%0, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
  %2 = spz.rms_norm %1, @norm.weight {eps = 1.000000e-05 : f64} : tensor<1x2x4xf32> -> tensor<1x2x4xf32>
  %3 = spz.rope %2, %positions, @cos, @sin {rotary = 4 : i64, pairing = #spz<pairing half>} : tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
  %scale = aten.get @scale : tensor<2x1xf32>
  %q = aten.mul.Tensor(%3, %scale) : (tensor<1x2x4xf32>, tensor<2x1xf32>) -> tensor<1x2x4xf32>
  %kept = spz.select %scores {count = 1 : i64, group = 2 : i64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x2xf32> -> tensor<1x2xi1>
  %k = aten.reshape(%x, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
  %a = spz.cached_attention %q, %k, %k, %positions, %cache keeping %kept : tensor<1x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
  %4 = aten.reshape(%a, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
  %5 = spz.linear %4, @o.weight {module = "o"} : tensor<1x8xf32> -> tensor<1x8xf32>
  func.return %5 : tensor<1x8xf32>
}
// CHECK-LABEL: func.func @turned(%x: tensor<1x8xf32>, %scores: tensor<1x2xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x8xf32> {
// CHECK-NEXT:    %scale = aten.get @scale : tensor<2x1xf32>
// CHECK-NEXT:    %kept = spz.select %scores {count = 1 : i64, group = 2 : i64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x2xf32> -> tensor<1x2xi1>
// CHECK-NEXT:    %k = aten.reshape(%x, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %0 = spz.sparse_linear %x, %kept, @q.weight {module = "q", side = #spz<side outputs>, density = 5.000000e-01 : f64} : tensor<1x8xf32>, tensor<1x2xi1> -> tensor<1x8xf32>
// CHECK-NEXT:    %1 = aten.reshape(%0, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %2 = spz.rms_norm %1, @norm.weight {eps = 1.000000e-05 : f64} : tensor<1x2x4xf32> -> tensor<1x2x4xf32>
// CHECK-NEXT:    %3 = spz.rope %2, %positions, @cos, @sin {rotary = 4 : i64, pairing = #spz<pairing half>} : tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
// CHECK-NEXT:    %q = aten.mul.Tensor(%3, %scale) : (tensor<1x2x4xf32>, tensor<2x1xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %a = spz.cached_attention %q, %k, %k, %positions, %cache keeping %kept : tensor<1x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
// CHECK-NEXT:    %4 = aten.reshape(%a, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
// CHECK-NEXT:    %5 = spz.sparse_linear %4, %kept, @o.weight {module = "o", side = #spz<side inputs>, density = 5.000000e-01 : f64} : tensor<1x8xf32>, tensor<1x2xi1> -> tensor<1x8xf32>
// CHECK-NEXT:    func.return %5 : tensor<1x8xf32>

// Queries that are keys too are all needed; so is what is normed over all heads at once. What
// stands between attention and its output linear may give other than 0.
func.func @shared(%x: tensor<1x8xf32>, %scores: tensor<1x2xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x8xf32> {
  %kept = spz.select %scores {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x2xf32> -> tensor<1x2xi1>
  %0 = spz.linear %x, @q.weight : tensor<1x8xf32> -> tensor<1x8xf32>
  %q = aten.reshape(%0, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
  %a = spz.cached_attention %q, %q, %q, %positions, %cache keeping %kept : tensor<1x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
  %1 = aten.add.Scalar(%a, other = 1.0) : (tensor<1x2x4xf32>) -> tensor<1x2x4xf32>
  %2 = aten.reshape(%1, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
  %3 = spz.linear %2, @o.weight : tensor<1x8xf32> -> tensor<1x8xf32>
  func.return %3 : tensor<1x8xf32>
}
// CHECK-LABEL: func.func @shared(%x: tensor<1x8xf32>, %scores: tensor<1x2xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x8xf32> {
// CHECK-NEXT:    %kept = spz.select %scores {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x2xf32> -> tensor<1x2xi1>
// CHECK-NEXT:    %0 = spz.linear %x, @q.weight : tensor<1x8xf32> -> tensor<1x8xf32>
// CHECK-NEXT:    %q = aten.reshape(%0, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %a = spz.cached_attention %q, %q, %q, %positions, %cache keeping %kept : tensor<1x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
// CHECK-NEXT:    %1 = aten.add.Scalar(%a, other = 1.0) : (tensor<1x2x4xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %2 = aten.reshape(%1, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
// CHECK-NEXT:    %3 = spz.linear %2, @o.weight : tensor<1x8xf32> -> tensor<1x8xf32>
// CHECK-NEXT:    func.return %3 : tensor<1x8xf32>
func.func @normed_whole(%x: tensor<1x8xf32>, %scores: tensor<1x2xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> (tensor<1x2x4xf32>, tensor<1x8xf32>) {
  %kept = spz.select %scores {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x2xf32> -> tensor<1x2xi1>
  %0 = spz.linear %x, @q.weight : tensor<1x8xf32> -> tensor<1x8xf32>
  %1 = spz.layer_norm %0 {eps = 1.000000e-05 : f64} : tensor<1x8xf32> -> tensor<1x8xf32>
  %q = aten.reshape(%1, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
  %k = aten.reshape(%x, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
  %a = spz.cached_attention %q, %k, %k, %positions, %cache keeping %kept : tensor<1x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
  %2 = aten.reshape(%a, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
  %3 = spz.linear %2, @o.weight : tensor<1x8xf32> -> tensor<1x8xf32>
  func.return %a, %3 : tensor<1x2x4xf32>, tensor<1x8xf32>
}
// CHECK-LABEL: func.func @normed_whole(%x: tensor<1x8xf32>, %scores: tensor<1x2xf32>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> (tensor<1x2x4xf32>, tensor<1x8xf32>) {
// CHECK-NEXT:    %kept = spz.select %scores {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<1x2xf32> -> tensor<1x2xi1>
// CHECK-NEXT:    %0 = spz.linear %x, @q.weight : tensor<1x8xf32> -> tensor<1x8xf32>
// CHECK-NEXT:    %1 = spz.layer_norm %0 {eps = 1.000000e-05 : f64} : tensor<1x8xf32> -> tensor<1x8xf32>
// CHECK-NEXT:    %q = aten.reshape(%1, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %k = aten.reshape(%x, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %a = spz.cached_attention %q, %k, %k, %positions, %cache keeping %kept : tensor<1x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
// CHECK-NEXT:    %2 = aten.reshape(%a, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
// CHECK-NEXT:    %3 = spz.linear %2, @o.weight : tensor<1x8xf32> -> tensor<1x8xf32>
// CHECK-NEXT:    func.return %a, %3 : tensor<1x2x4xf32>, tensor<1x8xf32>

// A prompt stays dense, and so does attention that keeps every head.
func.func @many_rows(%x: tensor<?x8xf32>, %scores: tensor<?x2xf32>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<?x8xf32> {
  %kept = spz.select %scores {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<?x2xf32> -> tensor<?x2xi1>
  %0 = spz.linear %x, @q.weight : tensor<?x8xf32> -> tensor<?x8xf32>
  %q = aten.reshape(%0, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
  %k = aten.reshape(%x, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
  %a = spz.cached_attention %q, %k, %k, %positions, %cache keeping %kept : tensor<?x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?xi64> -> tensor<?x2x4xf32>
  %1 = aten.reshape(%a, shape = [s, 8]) : (tensor<?x2x4xf32>) -> tensor<?x8xf32>
  %2 = spz.linear %1, @o.weight : tensor<?x8xf32> -> tensor<?x8xf32>
  func.return %2 : tensor<?x8xf32>
}
// CHECK-LABEL: func.func @many_rows(%x: tensor<?x8xf32>, %scores: tensor<?x2xf32>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<?x8xf32> {
// CHECK-NEXT:    %kept = spz.select %scores {threshold = 0.000000e+00 : f64, density = 5.000000e-01 : f64, active = 5.000000e-01 : f64} : tensor<?x2xf32> -> tensor<?x2xi1>
// CHECK-NEXT:    %0 = spz.linear %x, @q.weight : tensor<?x8xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    %q = aten.reshape(%0, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
// CHECK-NEXT:    %k = aten.reshape(%x, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
// CHECK-NEXT:    %a = spz.cached_attention %q, %k, %k, %positions, %cache keeping %kept : tensor<?x2xi1> {slot = 0 : i64, scale = 5.000000e-01 : f64} : tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?xi64> -> tensor<?x2x4xf32>
// CHECK-NEXT:    %1 = aten.reshape(%a, shape = [s, 8]) : (tensor<?x2x4xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %2 = spz.linear %1, @o.weight : tensor<?x8xf32> -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %2 : tensor<?x8xf32>
