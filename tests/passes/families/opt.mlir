// RUN: print-spz opt | filecheck %s

// Learned positions (read from the third row on), layer norms, ReLU; the head is the embedding.
// CHECK:      func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x64xf32>
// CHECK-NEXT:   %embedding = spz.embed %ids, @model.decoder.embed_tokens.weight {module = "model.decoder.embed_tokens"} : tensor<1xi64> -> tensor<1x32xf32>
// CHECK-NEXT:   %embedding_1 = spz.embed %positions, @model.decoder.embed_positions.embedding : tensor<1xi64> -> tensor<1x32xf32>
// CHECK-NEXT:   %add = aten.add.Tensor(%embedding, %embedding_1) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "model.decoder"}
// CHECK-NEXT:   %layer_norm = spz.layer_norm %add {module = "model.decoder.layers.0.self_attn_layer_norm", weight = @model.decoder.layers.0.self_attn_layer_norm.weight, bias = @model.decoder.layers.0.self_attn_layer_norm.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear = spz.linear %layer_norm, @model.decoder.layers.0.self_attn.q_proj.weight, @model.decoder.layers.0.self_attn.q_proj.bias {module = "model.decoder.layers.0.self_attn.q_proj"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %mul = aten.mul.Scalar(%linear, other = 0.3535533905932738) : (tensor<1x32xf32>) -> tensor<1x32xf32> {module = "model.decoder.layers.0.self_attn"}
// CHECK-NEXT:   %0 = aten.reshape(%mul, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32> {module = "model.decoder.layers.0.self_attn"}
// CHECK-NEXT:   %linear_1 = spz.linear %layer_norm, @model.decoder.layers.0.self_attn.k_proj.weight, @model.decoder.layers.0.self_attn.k_proj.bias {module = "model.decoder.layers.0.self_attn.k_proj"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear_2 = spz.linear %layer_norm, @model.decoder.layers.0.self_attn.v_proj.weight, @model.decoder.layers.0.self_attn.v_proj.bias {module = "model.decoder.layers.0.self_attn.v_proj"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %1 = aten.reshape(%linear_1, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32>
// CHECK-NEXT:   %2 = aten.reshape(%linear_2, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32>
// CHECK-NEXT:   %transpose = spz.cached_attention %0, %1, %2, %positions, %cache {module = "model.decoder.layers.0.self_attn", scale = 1.000000e+00 : f64, slot = 0 : i64} : tensor<1x4x8xf32>, tensor<1x4x8xf32>, tensor<1x4x8xf32>, tensor<1xi64> -> tensor<1x4x8xf32>
// CHECK-NEXT:   %reshape = aten.reshape(%transpose, shape = [1, 32]) : (tensor<1x4x8xf32>) -> tensor<1x32xf32> {module = "model.decoder.layers.0.self_attn"}
// CHECK-NEXT:   %linear_3 = spz.linear %reshape, @model.decoder.layers.0.self_attn.out_proj.weight, @model.decoder.layers.0.self_attn.out_proj.bias {module = "model.decoder.layers.0.self_attn.out_proj"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %reshape_1 = aten.add.Tensor(%add, %linear_3) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "model.decoder.layers.0"}
// CHECK-NEXT:   %layer_norm_1 = spz.layer_norm %reshape_1 {module = "model.decoder.layers.0.final_layer_norm", weight = @model.decoder.layers.0.final_layer_norm.weight, bias = @model.decoder.layers.0.final_layer_norm.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear_4 = spz.mlp %layer_norm_1, @model.decoder.layers.0.fc1.weight, @model.decoder.layers.0.fc2.weight {module = "model.decoder.layers.0", down_bias = @model.decoder.layers.0.fc2.bias, act = #spz<act relu>, up_bias = @model.decoder.layers.0.fc1.bias} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %view = aten.add.Tensor(%reshape_1, %linear_4) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "model.decoder.layers.0"}
// CHECK-NEXT:   %layer_norm_2 = spz.layer_norm %view {module = "model.decoder.final_layer_norm", weight = @model.decoder.final_layer_norm.weight, bias = @model.decoder.final_layer_norm.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear_5 = spz.lm_head %layer_norm_2, @model.decoder.embed_tokens.weight {module = "lm_head"} : tensor<1x32xf32> -> tensor<1x64xf32>
// CHECK-NEXT:   func.return %linear_5 : tensor<1x64xf32>
