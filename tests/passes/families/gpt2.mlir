// RUN: print-spz gpt2 | filecheck %s

// Learned positions; fused query-key-value stored input-first: transposed and cut in three.
// CHECK:      func.func @decode(%ids: tensor<1xi64>, %positions: tensor<1xi64>, %cache: !spz.kv_cache) -> tensor<1x64xf32>
// CHECK-NEXT:   %embedding = spz.embed %ids, @transformer.wte.weight {module = "transformer.wte"} : tensor<1xi64> -> tensor<1x32xf32>
// CHECK-NEXT:   %embedding_1 = spz.embed %positions, @transformer.wpe.embedding : tensor<1xi64> -> tensor<1x32xf32>
// CHECK-NEXT:   %add = aten.add.Tensor(%embedding, %embedding_1) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "transformer"}
// CHECK-NEXT:   %view = spz.layer_norm %add {module = "transformer.h.0.ln_1", weight = @transformer.h.0.ln_1.weight, bias = @transformer.h.0.ln_1.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %0 = spz.linear %view, @transformer.h.0.attn.c_attn.weight.transposed.part, @transformer.h.0.attn.c_attn.bias.part {module = "transformer.h.0.attn.c_attn"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %1 = aten.reshape(%0, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32>
// CHECK-NEXT:   %2 = spz.linear %view, @transformer.h.0.attn.c_attn.weight.transposed.part.2, @transformer.h.0.attn.c_attn.bias.part.2 {module = "transformer.h.0.attn.c_attn"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %3 = aten.reshape(%2, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32>
// CHECK-NEXT:   %4 = spz.linear %view, @transformer.h.0.attn.c_attn.weight.transposed.part.3, @transformer.h.0.attn.c_attn.bias.part.3 {module = "transformer.h.0.attn.c_attn"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %5 = aten.reshape(%4, shape = [1, 4, 8]) : (tensor<1x32xf32>) -> tensor<1x4x8xf32>
// CHECK-NEXT:   %transpose = spz.cached_attention %1, %3, %5, %positions, %cache {module = "transformer.h.0.attn", scale = 0.35355339059327379 : f64, slot = 0 : i64} : tensor<1x4x8xf32>, tensor<1x4x8xf32>, tensor<1x4x8xf32>, tensor<1xi64> -> tensor<1x4x8xf32>
// CHECK-NEXT:   %view_1 = aten.reshape(%transpose, shape = [1, 32]) : (tensor<1x4x8xf32>) -> tensor<1x32xf32> {module = "transformer.h.0.attn.c_proj"}
// CHECK-NEXT:   %view_2 = spz.linear %view_1, @transformer.h.0.attn.c_proj.weight.transposed, @transformer.h.0.attn.c_proj.bias {module = "transformer.h.0.attn.c_proj"} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %add_1 = aten.add.Tensor(%view_2, %add) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "transformer.h.0"}
// CHECK-NEXT:   %view_3 = spz.layer_norm %add_1 {module = "transformer.h.0.ln_2", weight = @transformer.h.0.ln_2.weight, bias = @transformer.h.0.ln_2.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %view_4 = spz.mlp %view_3, @transformer.h.0.mlp.c_fc.weight.transposed, @transformer.h.0.mlp.c_proj.weight.transposed {module = "transformer.h.0.mlp", down_bias = @transformer.h.0.mlp.c_proj.bias, act = #spz<act gelu_tanh>, up_bias = @transformer.h.0.mlp.c_fc.bias} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %add_2 = aten.add.Tensor(%add_1, %view_4) : (tensor<1x32xf32>, tensor<1x32xf32>) -> tensor<1x32xf32> {module = "transformer.h.0"}
// CHECK-NEXT:   %layer_norm = spz.layer_norm %add_2 {module = "transformer.ln_f", weight = @transformer.ln_f.weight, bias = @transformer.ln_f.bias, eps = 1.000000e-05 : f64} : tensor<1x32xf32> -> tensor<1x32xf32>
// CHECK-NEXT:   %linear = spz.lm_head %layer_norm, @transformer.wte.weight {module = "lm_head"} : tensor<1x32xf32> -> tensor<1x64xf32>
// CHECK-NEXT:   func.return %linear : tensor<1x64xf32>
