// A "language model" behind the C ABI, to test the runtime without a compiler: the next token is
// the one that the weights give for the position, with noise that depends on all tokens so far.
// Built with -DVOCAB=.. -DCONTEXT=.. ; the weights are CONTEXT floats.
// It plays one sparse block of 8 units: a decode chooses the bits of its token, and reads every
// second of them further.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#ifndef ABI
#define ABI 5
#endif

namespace {
struct Model {
  const float* script;
};
struct Session {
  const Model* model;
  int32_t* tokens;
  int64_t counters[4] = {};  // tokens, bytes of KV, units chosen, units read further
  int32_t* trace = nullptr;
  int64_t* ticks = nullptr;
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
int32_t sc_decode(void* handle, int32_t token, int64_t pos, float* logits, int32_t) {
  auto session = static_cast<Session*>(handle);
  int32_t units = 0, list[9];
  for (int32_t bit = 0; bit < 8; ++bit)
    if (token >> bit & 1) list[++units] = bit;
  list[0] = units;
  session->counters[0] += 1;
  session->counters[1] += 4 * (pos + 1);
  session->counters[2] += units;
  session->counters[3] += units / 2;
  if (session->trace) std::memcpy(session->trace, list, sizeof list);
  if (session->ticks) session->ticks[0] += 1000, session->ticks[1] += 3000;
  return sc_prefill(handle, &token, 1, pos, logits);
}
#endif
int32_t sc_session_counters(void* handle, int64_t* out, int64_t size) {
  if (size != 4) return 1;
  std::memcpy(out, static_cast<Session*>(handle)->counters, 4 * sizeof *out);
  return 0;
}
void sc_session_exchange(void*, void*, void*) {}

int32_t sc_session_trace(void* handle, int32_t* room, int64_t size) {
  static_cast<Session*>(handle)->trace = room;
  return room && size != 9;
}
int32_t sc_session_profile(void* handle, int64_t* ticks, int64_t size) {
  static_cast<Session*>(handle)->ticks = ticks;
  return ticks && size != 2;
}
const char* sc_steps() { return "embed toy.embed\nmlp toy.mlp\n"; }
}
