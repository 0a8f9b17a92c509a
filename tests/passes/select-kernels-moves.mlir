// RUN: sparsecomp-opt %s -p choose-layouts,select-kernels | filecheck %s

// Moves are views of one buffer; a kernel that must have its rows in order gets a copy.
aten.weight @table : tensor<16x8xf32>
aten.weight @experts : tensor<4x3x6xf32>
aten.weight @bias : tensor<3xf32>
func.func @prefill(%ids: tensor<?xi64>, %positions: tensor<?xi64>, %cache: !spz.kv_cache) -> tensor<1x3xf32> {
  %0 = spz.embed %ids, @table : tensor<?xi64> -> tensor<?x8xf32>
  %last = spz.last %0 : tensor<?x8xf32> -> tensor<1x8xf32>
  %part = aten.slice.Tensor(%last, dim = 1, start = -3, end = 8) : (tensor<1x8xf32>) -> tensor<1x3xf32>
  func.return %part : tensor<1x3xf32>
}
func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x3xf32> {
  %x = spz.embed %ids, @table : tensor<1xi64> -> tensor<1x8xf32>
  %heads = aten.reshape(%x, shape = [1, 2, 4]) : (tensor<1x8xf32>) -> tensor<1x2x4xf32>
  %turned = aten.permute(%heads, dims = [0, 2, 1]) : (tensor<1x2x4xf32>) -> tensor<1x4x2xf32>
  %odd = aten.slice.Tensor(%turned, dim = 1, start = 1, end = 4, step = 2) : (tensor<1x4x2xf32>) -> tensor<1x2x2xf32>
  %row = aten.reshape(%odd, shape = [1, 4]) : (tensor<1x2x2xf32>) -> tensor<1x4xf32>
  %sum = aten.sum.dim_IntList(%turned, dim = [1]) : (tensor<1x4x2xf32>) -> tensor<1x2xf32>
  %joined = aten.cat([%row, %sum], dim = 1) : (tensor<1x4xf32>, tensor<1x2xf32>) -> tensor<1x6xf32>
  %values, %indices = aten.topk(%row, k = 2) : (tensor<1x4xf32>) -> (tensor<1x2xf32>, tensor<1x2xi64>)
  %shares = aten.softmax.int(%values, dim = -1) : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %rest = aten.scatter.value(%row, dim = -1, index = %indices, value = 0.0) : (tensor<1x4xf32>, tensor<1x2xi64>) -> tensor<1x4xf32>
  %picked = aten.gather(%rest, dim = -1, index = %indices) : (tensor<1x4xf32>, tensor<1x2xi64>) -> tensor<1x2xf32>
  %both = aten.mul.Tensor(%shares, %picked) : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %column = aten.reshape(%both, shape = [1, 2, 1]) : (tensor<1x2xf32>) -> tensor<1x2x1xf32>
  %wide = aten.expand(%joined, size = [1, 2, 6]) : (tensor<1x6xf32>) -> tensor<1x2x6xf32>
  %chosen = spz.expert_linear %wide, %indices, @experts {module = "experts"} : tensor<1x2x6xf32>, tensor<1x2xi64> -> tensor<1x2x3xf32>
  %weighed = aten.mul.Tensor(%chosen, %column) : (tensor<1x2x3xf32>, tensor<1x2x1xf32>) -> tensor<1x2x3xf32>
  %total = aten.sum.dim_IntList(%weighed, dim = [1]) : (tensor<1x2x3xf32>) -> tensor<1x3xf32>
  %get = aten.get @bias : tensor<3xf32>
  %out = aten.add.Tensor(%total, %get) : (tensor<1x3xf32>, tensor<3xf32>) -> tensor<1x3xf32>
  func.return %out : tensor<1x3xf32>
}

// CHECK-LABEL: exec.program @prefill attributes {tile = 64 : i64} {
// CHECK-NEXT:    %0 = exec.buffer : memref<?x8xf32>
// CHECK-NEXT:    exec.embed @table.rows into %0 {index = #exec<index tokens>} : memref<?x8xf32>
// CHECK-NEXT:    %last = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.last %0 into %last : memref<?x8xf32>, memref<1x8xf32>
// CHECK-NEXT:    %1 = exec.view %last {start = 5 : i64, strides = array<i64: 1>} : memref<1x8xf32> -> memref<1x3xf32>
// CHECK-NEXT:    %logits = exec.buffer {space = #exec<space output>} : memref<1x3xf32>
// CHECK-NEXT:    exec.map(%1) into %logits : memref<1x3xf32> into memref<1x3xf32> {
// CHECK-NEXT:    ^bb0(%2: tensor<f32>):
// CHECK-NEXT:    exec.yield %2 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    }
// CHECK-LABEL: exec.program @decode attributes {tile = 1 : i64} {
// CHECK-NEXT:    %x = exec.buffer : memref<1x8xf32>
// CHECK-NEXT:    exec.embed @table.rows into %x {index = #exec<index tokens>} : memref<1x8xf32>
// CHECK-NEXT:    %0 = exec.view %x {start = 0 : i64, strides = array<i64: 4, 1>} : memref<1x8xf32> -> memref<1x2x4xf32>
// CHECK-NEXT:    %1 = exec.view %x {start = 0 : i64, strides = array<i64: 1, 4>} : memref<1x8xf32> -> memref<1x4x2xf32>
// CHECK-NEXT:    %2 = exec.view %x {start = 1 : i64, strides = array<i64: 2, 4>} : memref<1x8xf32> -> memref<1x2x2xf32>
// CHECK-NEXT:    %3 = exec.buffer : memref<1x2x2xf32>
// CHECK-NEXT:    exec.map(%2) into %3 : memref<1x2x2xf32> into memref<1x2x2xf32> {
// CHECK-NEXT:    ^bb0(%4: tensor<f32>):
// CHECK-NEXT:    exec.yield %4 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %5 = exec.view %3 {start = 0 : i64, strides = array<i64: 1>} : memref<1x2x2xf32> -> memref<1x4xf32>
// CHECK-NEXT:    %6 = exec.view %x {start = 0 : i64, strides = array<i64: 4, 1>} : memref<1x8xf32> -> memref<1x2x4xf32>
// CHECK-NEXT:    %sum = exec.buffer : memref<1x2xf32>
// CHECK-NEXT:    exec.reduce %6 into %sum {fold = #exec<fold sum>} : memref<1x2x4xf32>, memref<1x2xf32>
// CHECK-NEXT:    %joined = exec.buffer : memref<1x6xf32>
// CHECK-NEXT:    %7 = exec.view %joined {start = 0 : i64, strides = array<i64: 1>} : memref<1x6xf32> -> memref<1x4xf32>
// CHECK-NEXT:    exec.map(%5) into %7 : memref<1x4xf32> into memref<1x4xf32> {
// CHECK-NEXT:    ^bb0(%8: tensor<f32>):
// CHECK-NEXT:    exec.yield %8 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %9 = exec.view %joined {start = 4 : i64, strides = array<i64: 1>} : memref<1x6xf32> -> memref<1x2xf32>
// CHECK-NEXT:    exec.map(%sum) into %9 : memref<1x2xf32> into memref<1x2xf32> {
// CHECK-NEXT:    ^bb0(%10: tensor<f32>):
// CHECK-NEXT:    exec.yield %10 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %11 = exec.buffer : memref<1x2x2xf32>
// CHECK-NEXT:    exec.top_k %5 into %11 : memref<1x4xf32>, memref<1x2x2xf32>
// CHECK-NEXT:    %12 = exec.view %11 {start = 0 : i64, strides = array<i64: 1>} : memref<1x2x2xf32> -> memref<1x2xf32>
// CHECK-NEXT:    %13 = exec.view %11 {start = 2 : i64, strides = array<i64: 1>} : memref<1x2x2xf32> -> memref<1x2xf32>
// CHECK-NEXT:    %shares = exec.buffer : memref<1x2xf32>
// CHECK-NEXT:    exec.reduce %12 into %shares {fold = #exec<fold softmax>} : memref<1x2xf32>, memref<1x2xf32>
// CHECK-NEXT:    %rest = exec.buffer : memref<1x4xf32>
// CHECK-NEXT:    exec.scatter %5, %13 into %rest {value = 0.000000e+00 : f64} : memref<1x4xf32>, memref<1x2xf32>, memref<1x4xf32>
// CHECK-NEXT:    %picked = exec.buffer : memref<1x2xf32>
// CHECK-NEXT:    exec.gather %rest, %13 into %picked : memref<1x4xf32>, memref<1x2xf32>, memref<1x2xf32>
// CHECK-NEXT:    %both = exec.buffer : memref<1x2xf32>
// CHECK-NEXT:    exec.map(%shares, %picked) into %both : memref<1x2xf32>, memref<1x2xf32> into memref<1x2xf32> {
// CHECK-NEXT:    ^bb0(%14: tensor<f32>, %15: tensor<f32>):
// CHECK-NEXT:    %16 = aten.mul.Tensor(%14, %15) : (tensor<f32>, tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    exec.yield %16 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %17 = exec.view %both {start = 0 : i64, strides = array<i64: 1, 1>} : memref<1x2xf32> -> memref<1x2x1xf32>
// CHECK-NEXT:    %18 = exec.view %joined {start = 0 : i64, strides = array<i64: 0, 1>} : memref<1x6xf32> -> memref<1x2x6xf32>
// CHECK-NEXT:    %19 = exec.buffer : memref<1x2x6xf32>
// CHECK-NEXT:    exec.map(%18) into %19 : memref<1x2x6xf32> into memref<1x2x6xf32> attributes {module = "experts"} {
// CHECK-NEXT:    ^bb0(%20: tensor<f32>):
// CHECK-NEXT:    exec.yield %20 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %chosen = exec.buffer : memref<1x2x3xf32>
// CHECK-NEXT:    exec.expert_linear %19, %13, @experts.rows into %chosen {module = "experts"} : memref<1x2x6xf32>, memref<1x2xf32>, memref<1x2x3xf32>
// CHECK-NEXT:    %weighed = exec.buffer : memref<1x2x3xf32>
// CHECK-NEXT:    exec.map(%chosen, %17) into %weighed : memref<1x2x3xf32>, memref<1x2x1xf32> into memref<1x2x3xf32> {
// CHECK-NEXT:    ^bb0(%21: tensor<f32>, %22: tensor<f32>):
// CHECK-NEXT:    %23 = aten.mul.Tensor(%21, %22) : (tensor<f32>, tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    exec.yield %23 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %24 = exec.view %weighed {start = 0 : i64, strides = array<i64: 1, 3>} : memref<1x2x3xf32> -> memref<1x3x2xf32>
// CHECK-NEXT:    %25 = exec.buffer : memref<1x3x2xf32>
// CHECK-NEXT:    exec.map(%24) into %25 : memref<1x3x2xf32> into memref<1x3x2xf32> {
// CHECK-NEXT:    ^bb0(%26: tensor<f32>):
// CHECK-NEXT:    exec.yield %26 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %total = exec.buffer : memref<1x3xf32>
// CHECK-NEXT:    exec.reduce %25 into %total {fold = #exec<fold sum>} : memref<1x3x2xf32>, memref<1x3xf32>
// CHECK-NEXT:    %27 = exec.constant @bias.floats : memref<3xf32>
// CHECK-NEXT:    %out = exec.buffer {space = #exec<space output>} : memref<1x3xf32>
// CHECK-NEXT:    exec.map(%total, %27) into %out : memref<1x3xf32>, memref<3xf32> into memref<1x3xf32> {
// CHECK-NEXT:    ^bb0(%28: tensor<f32>, %29: tensor<f32>):
// CHECK-NEXT:    %30 = aten.add.Tensor(%28, %29) : (tensor<f32>, tensor<f32>) -> tensor<f32>
// CHECK-NEXT:    exec.yield %30 : tensor<f32>
// CHECK-NEXT:    }
// CHECK-NEXT:    }
