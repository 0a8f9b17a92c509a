// RUN: print-spz gpt_neox | filecheck %s

// Fused query-key-value interleaved by head, half of each head turned, MLP beside attention.
// CHECK:      func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x64xf32>
// CHECK-NEXT:   %embedding = spz.embed %ids, @gpt_neox.embed_in.weight {module = "gpt_neox.embed_in"} : tensor<1xi64> -> tensor<1x32xf32>
// CHECK-NEXT:   %layer_norm = spz.layer_norm %embedding {module = "gpt_neox.layers.0.input_layernorm", weight = @gpt_neox.layers.0.input_layernorm.weight, bias = @gpt_neox.layers.0.input_layernorm.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %0 = spz.linear %layer_norm, @gpt_neox.layers.0.attention.query_key_value.weight.chunk, @gpt_neox.layers.0.attention.query_key_value.bias.chunk {module = "gpt_neox.layers.0.attention.query_key_value"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %chunk = aten.reshape(%0, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32>
// CHECK-NEXT:   %1 = spz.linear %layer_norm, @gpt_neox.layers.0.attention.query_key_value.weight.chunk.2, @gpt_neox.layers.0.attention.query_key_value.bias.chunk.2 {module = "gpt_neox.layers.0.attention.query_key_value"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %chunk_1 = aten.reshape(%1, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32>
// CHECK-NEXT:   %2 = spz.linear %layer_norm, @gpt_neox.layers.0.attention.query_key_value.weight.chunk.3, @gpt_neox.layers.0.attention.query_key_value.bias.chunk.3 {module = "gpt_neox.layers.0.attention.query_key_value"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %chunk_2 = aten.reshape(%2, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32>
// CHECK-NEXT:   %3 = spz.rope %chunk, %positions, @gpt_neox.rotary_emb.cos, @gpt_neox.rotary_emb.sin.signed {module = "gpt_neox.layers.0.attention", rotary = 4 : i64, pairing = #spz<pairing half>} : tensor<1x4x8xf32>, tensor<1xi64> -> tensor<1x4x8xf32>
// CHECK-NEXT:   %cat = spz.rope %chunk_1, %positions, @gpt_neox.rotary_emb.cos, @gpt_neox.rotary_emb.sin.signed {module = "gpt_neox.layers.0.attention", rotary = 4 : i64, pairing = #spz<pairing half>} : tensor<1x4x8xf32>, tensor<1xi64> -> tensor<1x4x8xf32>
// CHECK-NEXT:   %transpose = spz.cached_attention %3, %cat, %chunk_2, %positions, %cache {module = "gpt_neox.layers.0.attention", scale = 0.35355339059327379 : f64, slot = 0 : i64} : tensor<1x4x8xf32>, tensor<1x4x8xf32>, tensor<1x4x8xf32>, tensor<1xi64> -> tensor<1x4x8xf32>
// CHECK-NEXT:   %reshape = aten.reshape(%transpose, shape = [1, 32]) : (tensor<1x4x8xf32>) -> tensor<1x32xf32> {module = "gpt_neox.layers.0.attention"}
// CHECK-NEXT:   %linear = spz.linear %reshape, @gpt_neox.layers.0.attention.dense.weight, @gpt_neox.layers.0.attention.dense.bias {module = "gpt_neox.layers.0.attention.dense"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %layer_norm_1 = spz.layer_norm %embedding {module = "gpt_neox.layers.0.post_attention_layernorm", weight = @gpt_neox.layers.0.post_attention_layernorm.weight, bias = @gpt_neox.layers.0.post_attention_layernorm.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear_1 = spz.mlp %layer_norm_1, @gpt_neox.layers.0.mlp.dense_h_to_4h.weight, @gpt_neox.layers.0.mlp.dense_4h_to_h.weight {module = "gpt_neox.layers.0.mlp", down_bias = @gpt_neox.layers.0.mlp.dense_4h_to_h.bias, act = #spz<act gelu_erf>, up_bias = @gpt_neox.layers.0.mlp.dense_h_to_4h.bias} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %add = aten.add.Tensor(%linear_1, %linear) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "gpt_neox.layers.0"}
// CHECK-NEXT:   %add_1 = aten.add.Tensor(%add, %embedding) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "gpt_neox.layers.0"}
// CHECK-NEXT:   %layer_norm_2 = spz.layer_norm %add_1 {module = "gpt_neox.final_layer_norm", weight = @gpt_neox.final_layer_norm.weight, bias = @gpt_neox.final_layer_norm.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear_2 = spz.lm_head %layer_norm_2, @lm_head.weight {module = "lm_head"} : tensor<1x32xf32> -> tensor<1x64xf32>
// CHECK-NEXT:   func.return %linear_2 : tensor<1x64xf32>
