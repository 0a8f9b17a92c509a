// RUN: sparsecomp-opt %s -p derive-decode | filecheck %s

aten.weight @table : tensor<16x8xf32>
aten.weight @o.weight : tensor<8x8xf32>

// Each attention gets a slot of the cache. @decode is the same for one row; @prefill runs over all
// rows as far as attention reads them, and over the last one from there.
func.func @forward(%ids: tensor<?xi64>, %positions: tensor<?xi64>) -> tensor<?x16xf32> {
  %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x8xf32>
  %1 = aten.reshape(%0, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
  %2 = spz.attention %1, %1, %1 {scale = 5.000000e-01 : f64, window = 8 : i64} : tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?x2x4xf32> -> tensor<?x2x4xf32>
  %3 = spz.attention %2, %1, %1 {scale = 5.000000e-01 : f64} : tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?x2x4xf32> -> tensor<?x2x4xf32>
  %4 = aten.reshape(%3, shape = [s, 8]) : (tensor<?x2x4xf32>) -> tensor<?x8xf32>
  %5 = spz.linear %4, @o.weight {module = "o"} : tensor<?x8xf32> -> tensor<?x8xf32>
  %6 = aten.add.Tensor(%0, %5) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %7 = spz.lm_head %6, @table {module = "lm_head"} : tensor<?x8xf32> -> tensor<?x16xf32>
  func.return %7 : tensor<?x16xf32>
}

// CHECK-LABEL: func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32>
// CHECK-NEXT:    %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x8xf32>
// CHECK-NEXT:    %1 = spz.last %0 : tensor<?x8xf32> -> tensor<1x8xf32>
// CHECK-NEXT:    %2 = aten.reshape(%0, shape = [s, 2, 4]) : (tensor<?x8xf32>) -> tensor<?x2x4xf32>
// CHECK-NEXT:    %3 = spz.cached_attention %2, %2, %2, %positions, %cache {scale = 5.000000e-01 : f64, window = 8 : i64, slot = 0 : i64} : tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?xi64> -> tensor<?x2x4xf32>
// CHECK-NEXT:    %4 = spz.cached_attention %3, %2, %2, %positions, %cache {scale = 5.000000e-01 : f64, slot = 1 : i64} : tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?x2x4xf32>, tensor<?xi64> -> tensor<?x2x4xf32>
// CHECK-NEXT:    %5 = spz.last %4 : tensor<?x2x4xf32> -> tensor<1x2x4xf32>
// CHECK-NEXT:    %6 = aten.reshape(%5, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
// CHECK-NEXT:    %7 = spz.linear %6, @o.weight {module = "o"} : tensor<1x8xf32> -> tensor<1x8xf32>
// CHECK-NEXT:    %8 = aten.add.Tensor(%1, %7) : (tensor<1x8xf32>, tensor<1x8xf32>) -> tensor<1x8xf32>
// CHECK-NEXT:    %9 = spz.lm_head %8, @table {module = "lm_head"} : tensor<1x8xf32> -> tensor<1x16xf32>
// CHECK-NEXT:    func.return %9 : tensor<1x16xf32>
// CHECK-LABEL: func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x16xf32>
// CHECK-NEXT:    %0 = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x8xf32>
// CHECK-NEXT:    %1 = aten.reshape(%0, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
// CHECK-NEXT:    %2 = spz.cached_attention %1, %1, %1, %positions, %cache {scale = 5.000000e-01 : f64, window = 8 : i64, slot = 0 : i64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
// CHECK-NEXT:    %3 = spz.cached_attention %2, %1, %1, %positions, %cache {scale = 5.000000e-01 : f64, slot = 1 : i64} : tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>, tensor<1xi64> -> tensor<1x2x4xf32>
// CHECK-NEXT:    %4 = aten.reshape(%3, shape = [1, 8]) : (tensor<1x2x4xf32>) -> tensor<1x8xf32>
// CHECK-NEXT:    %5 = spz.linear %4, @o.weight {module = "o"} : tensor<1x8xf32> -> tensor<1x8xf32>
// CHECK-NEXT:    %6 = aten.add.Tensor(%0, %5) : (tensor<1x8xf32>, tensor<1x8xf32>) -> tensor<1x8xf32>
// CHECK-NEXT:    %7 = spz.lm_head %6, @table {module = "lm_head"} : tensor<1x8xf32> -> tensor<1x16xf32>
// CHECK-NEXT:    func.return %7 : tensor<1x16xf32>
