// RUN: print-spz mistral | filecheck %s

// llama's, with a sliding window.
// CHECK:      func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x64xf32>
// CHECK-NEXT:   %embedding = spz.embed %ids, @model.embed_tokens.weight {module = "model.embed_tokens"} : tensor<1xi64> -> tensor<1x32xf32>
// CHECK-NEXT:   %mul = spz.rms_norm %embedding, @model.layers.0.input_layernorm.weight {module = "model.layers.0.input_layernorm", eps = 1.000000e-06 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear = spz.linear %mul, @model.layers.0.self_attn.q_proj.weight {module = "model.layers.0.self_attn.q_proj"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %transpose = aten.reshape(%linear, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32> {module = "model.layers.0.self_attn"}
// CHECK-NEXT:   %linear_1 = spz.linear %mul, @model.layers.0.self_attn.k_proj.weight {module = "model.layers.0.self_attn.k_proj"} : tensor<1x32xf32> -> tensor<1x16xf32>
// CHECK-NEXT:   %transpose_1 = aten.reshape(%linear_1, shape = [1, 2, 8]) : (tensor<1x16xf32>) -> tensor<1x2x8xf32> {module = "model.layers.0.self_attn"}
// CHECK-NEXT:   %linear_2 = spz.linear %mul, @model.layers.0.self_attn.v_proj.weight {module = "model.layers.0.self_attn.v_proj"} : tensor<1x32xf32> -> tensor<1x16xf32>
// CHECK-NEXT:   %0 = spz.rope %transpose, %positions, @model.rotary_emb.cos, @model.rotary_emb.sin.signed {module = "model.layers.0.self_attn", rotary = 8 : i64, pairing = #spz<pairing half>} : tensor<1x4x8xf32>, tensor<1xi64> -> tensor<1x4x8xf32>
// CHECK-NEXT:   %add = spz.rope %transpose_1, %positions, @model.rotary_emb.cos, @model.rotary_emb.sin.signed {module = "model.layers.0.self_attn", rotary = 8 : i64, pairing = #spz<pairing half>} : tensor<1x2x8xf32>, tensor<1xi64> -> tensor<1x2x8xf32>
// CHECK-NEXT:   %1 = aten.reshape(%linear_2, shape = [1, 2, 8]) : (tensor<1x16xf32>) -> tensor<1x2x8xf32>
// CHECK-NEXT:   %transpose_2 = spz.cached_attention %0, %add, %1, %positions, %cache {module = "model.layers.0.self_attn", scale = 0.35355339059327379 : f64, window = 5 : i64, slot = 0 : i64} : tensor<1x4x8xf32>, tensor<1x2x8xf32>, tensor<1x2x8xf32>, tensor<1xi64> -> tensor<1x4x8xf32>
// CHECK-NEXT:   %reshape = aten.reshape(%transpose_2, shape = [1, 32]) : (tensor<1x4x8xf32>) -> tensor<1x32xf32> {module = "model.layers.0.self_attn"}
// CHECK-NEXT:   %linear_3 = spz.linear %reshape, @model.layers.0.self_attn.o_proj.weight {module = "model.layers.0.self_attn.o_proj"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %add_1 = aten.add.Tensor(%embedding, %linear_3) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "model.layers.0"}
// CHECK-NEXT:   %mul_1 = spz.rms_norm %add_1, @model.layers.0.post_attention_layernorm.weight {module = "model.layers.0.post_attention_layernorm", eps = 1.000000e-06 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear_4 = spz.gated_mlp %mul_1, @model.layers.0.mlp.gate_proj.weight, @model.layers.0.mlp.up_proj.weight, @model.layers.0.mlp.down_proj.weight {module = "model.layers.0.mlp", act = #spz<act silu>} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %add_2 = aten.add.Tensor(%add_1, %linear_4) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "model.layers.0"}
// CHECK-NEXT:   %mul_2 = spz.rms_norm %add_2, @model.norm.weight {module = "model.norm", eps = 1.000000e-06 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear_5 = spz.lm_head %mul_2, @lm_head.weight {module = "lm_head"} : tensor<1x32xf32> -> tensor<1x64xf32>
// CHECK-NEXT:   func.return %linear_5 : tensor<1x64xf32>
