// RUN: print-spz phi | filecheck %s

// Half of each head turned, one norm for attention and the MLP beside it, a bias on the head.
// CHECK:      func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x64xf32>
// CHECK-NEXT:   %embedding = spz.embed %ids, @model.embed_tokens.weight {module = "model.embed_tokens"} : tensor<1xi64> -> tensor<1x32xf32>
// CHECK-NEXT:   %layer_norm = spz.layer_norm %embedding {module = "model.layers.0.input_layernorm", weight = @model.layers.0.input_layernorm.weight, bias = @model.layers.0.input_layernorm.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear = spz.linear %layer_norm, @model.layers.0.self_attn.q_proj.weight, @model.layers.0.self_attn.q_proj.bias {module = "model.layers.0.self_attn.q_proj"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %transpose = aten.reshape(%linear, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32> {module = "model.layers.0.self_attn"}
// CHECK-NEXT:   %linear_1 = spz.linear %layer_norm, @model.layers.0.self_attn.k_proj.weight, @model.layers.0.self_attn.k_proj.bias {module = "model.layers.0.self_attn.k_proj"} : tensor<1x32xf32> -> tensor<1x16xf32>
// CHECK-NEXT:   %transpose_1 = aten.reshape(%linear_1, shape = [1, 2, 8]) : (tensor<1x16xf32>) -> tensor<1x2x8xf32> {module = "model.layers.0.self_attn"}
// CHECK-NEXT:   %linear_2 = spz.linear %layer_norm, @model.layers.0.self_attn.v_proj.weight, @model.layers.0.self_attn.v_proj.bias {module = "model.layers.0.self_attn.v_proj"} : tensor<1x32xf32> -> tensor<1x16xf32>
// CHECK-NEXT:   %0 = spz.rope %transpose, %positions, @model.rotary_emb.cos, @model.rotary_emb.sin.signed {module = "model.layers.0.self_attn", rotary = 4 : i64, pairing = #spz<pairing half>} : tensor<1x4x8xf32>, tensor<1xi64> -> tensor<1x4x8xf32>
// CHECK-NEXT:   %cat = spz.rope %transpose_1, %positions, @model.rotary_emb.cos, @model.rotary_emb.sin.signed {module = "model.layers.0.self_attn", rotary = 4 : i64, pairing = #spz<pairing half>} : tensor<1x2x8xf32>, tensor<1xi64> -> tensor<1x2x8xf32>
// CHECK-NEXT:   %1 = aten.reshape(%linear_2, shape = [1, 2, 8]) : (tensor<1x16xf32>) -> tensor<1x2x8xf32>
// CHECK-NEXT:   %transpose_2 = spz.cached_attention %0, %cat, %1, %positions, %cache {module = "model.layers.0.self_attn", scale = 0.35355339059327379 : f64, slot = 0 : i64} : tensor<1x4x8xf32>, tensor<1x2x8xf32>, tensor<1x2x8xf32>, tensor<1xi64> -> tensor<1x4x8xf32>
// CHECK-NEXT:   %reshape = aten.reshape(%transpose_2, shape = [1, 32]) : (tensor<1x4x8xf32>) -> tensor<1x32xf32> {module = "model.layers.0.self_attn"}
// CHECK-NEXT:   %linear_3 = spz.linear %reshape, @model.layers.0.self_attn.dense.weight, @model.layers.0.self_attn.dense.bias {module = "model.layers.0.self_attn.dense"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear_4 = spz.mlp %layer_norm, @model.layers.0.mlp.fc1.weight, @model.layers.0.mlp.fc2.weight {module = "model.layers.0.mlp", down_bias = @model.layers.0.mlp.fc2.bias, act = #spz<act gelu_tanh>, up_bias = @model.layers.0.mlp.fc1.bias} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %add = aten.add.Tensor(%linear_3, %linear_4) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "model.layers.0"}
// CHECK-NEXT:   %add_1 = aten.add.Tensor(%add, %embedding) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "model.layers.0"}
// CHECK-NEXT:   %layer_norm_1 = spz.layer_norm %add_1 {module = "model.final_layernorm", weight = @model.final_layernorm.weight, bias = @model.final_layernorm.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear_5 = spz.lm_head %layer_norm_1, @lm_head.weight, @lm_head.bias {module = "lm_head"} : tensor<1x32xf32> -> tensor<1x64xf32>
// CHECK-NEXT:   func.return %linear_5 : tensor<1x64xf32>
