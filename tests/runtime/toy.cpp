// A "language model" behind the C ABI, to test the runtime without a compiler: the next token is
// the one that the weights give for the position, with noise that depends on all tokens so far.
// Built with -DVOCAB=.. -DCONTEXT=.. ; the weights are CONTEXT floats.
#include <cstdint>
#include <cstdlib>

#ifndef ABI
#define ABI 1
#endif

namespace {
struct Model {
  const float* script;
};
struct Session {
  const Model* model;
  int32_t* tokens;
};

void logits_at(const Session* session, int64_t pos, float* logits) {
  uint64_t hash = 1469598103934665603u;
  for (int64_t i = 0; i <= pos; ++i) hash = (hash ^ uint32_t(session->tokens[i])) * 1099511628211u;
  for (int64_t v = 0; v < VOCAB; ++v) {
    uint64_t mixed = (hash ^ uint64_t(v)) * 0x9E3779B97F4A7C15u;
    logits[v] = float(mixed >> 40) / float(1 << 24) + (v == session->model->script[pos] ? 4 : 0);
  }
}
}  // namespace

extern "C" {
int32_t sc_abi_version() { return ABI; }

void* sc_model_open(const void* weights) {
  if (reinterpret_cast<uintptr_t>(weights) % 64) return nullptr;
  return new Model{static_cast<const float*>(weights)};
}
void sc_model_close(void* model) { delete static_cast<Model*>(model); }

void* sc_session_open(void* model, int64_t capacity) {
  if (capacity == 13) return nullptr;  // plays a machine out of memory
  auto tokens = static_cast<int32_t*>(calloc(capacity, sizeof(int32_t)));
  return new Session{static_cast<Model*>(model), tokens};
}
void sc_session_close(void* session) {
  free(static_cast<Session*>(session)->tokens);
  delete static_cast<Session*>(session);
}

int32_t sc_prefill(void* handle, const int32_t* tokens, int64_t n, int64_t pos, float* logits) {
  auto session = static_cast<Session*>(handle);
  for (int64_t i = 0; i < n; ++i) session->tokens[pos + i] = tokens[i];
  if (logits) logits_at(session, pos + n - 1, logits);
  return 0;
}
#ifndef WITHOUT_DECODE
int32_t sc_decode(void* handle, int32_t token, int64_t pos, float* logits) {
  return sc_prefill(handle, &token, 1, pos, logits);
}
#endif
}
