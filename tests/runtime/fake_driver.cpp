// A driver without a GPU: memory is the host's, and what it is asked for is written to stdout.
// Streams, events, graphs and functions are numbers, counted from 1 by kind.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <initializer_list>

#define API extern "C" __attribute__((visibility("default"))) int

namespace {
uintptr_t streams, events;
void* number(uintptr_t& count) { return reinterpret_cast<void*>(++count); }
long of(void* handle) { return reinterpret_cast<long>(handle); }
}  // namespace

API cuInit(unsigned) {
    setvbuf(stdout, nullptr, _IONBF, 0);
    return 0;
}
API cuDriverGetVersion(int* version) { *version = 12090; return 0; }
API cuDeviceGetCount(int* count) { *count = 1; return 0; }
API cuDeviceGet(int* device, int ordinal) { *device = ordinal; return 0; }
API cuDeviceGetName(char* name, int size, int) { snprintf(name, size, "Fake 9000"); return 0; }
API cuDeviceGetAttribute(int* value, int attribute, int) {
    *value = attribute == 75 ? 9 : 0;  // the major of its compute capability, and the minor
    return 0;
}
API cuDevicePrimaryCtxRetain(void** context, int) { *context = &streams; return 0; }
API cuCtxSetCurrent(void* context) { return context == &streams ? 0 : 201; }
API cuGetErrorString(int, const char** text) { *text = "in the words of the driver"; return 0; }
API cuGetErrorName(int, const char** text) { *text = "CUDA_ERROR"; return 0; }

API cuMemAlloc_v2(uintptr_t* address, size_t size) {
    if (size > 1 << 20) return 2;
    *address = reinterpret_cast<uintptr_t>(malloc(size));
    return 0;
}
API cuMemFree_v2(uintptr_t address) { free(reinterpret_cast<void*>(address)); return 0; }
API cuMemGetInfo_v2(size_t* free, size_t* total) { *free = 1 << 20; *total = 1 << 20; return 0; }
API cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t size, void* stream) {
    memcpy(reinterpret_cast<void*>(to), from, size);
    printf("write %zu on %ld\n", size, of(stream));
    return 0;
}
API cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t size, void* stream) {
    memcpy(to, reinterpret_cast<void*>(from), size);
    printf("read %zu on %ld\n", size, of(stream));
    return 0;
}
API cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t size, void* stream) {
    memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), size);
    printf("copy %zu on %ld\n", size, of(stream));
    return 0;
}
API cuMemsetD8Async(uintptr_t to, unsigned char value, size_t size, void* stream) {
    memset(reinterpret_cast<void*>(to), value, size);
    printf("set %zu on %ld\n", size, of(stream));
    return 0;
}

API cuModuleLoadData(void** module, const void* image) {
    *module = strdup(static_cast<const char*>(image));
    return 0;
}
API cuModuleGetFunction(void** function, void* module, const char* name) {
    static char text[256];
    snprintf(text, sizeof text, "%s in %s", name, static_cast<char*>(module));
    *function = strdup(text);
    return 0;
}
API cuFuncSetAttribute(void* function, int attribute, int value) {
    printf("%s: attribute %d is %d\n", static_cast<char*>(function), attribute, value);
    return 0;
}
API cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned,
                   unsigned, unsigned shared, void* stream, void** parameters, void**) {
    printf("launch %s: %u %u %u of %u, shared %u, on %ld:", static_cast<char*>(function), x, y, z,
           threads, shared, of(stream));
    for (int i = 0; i < 4; ++i) printf(" %lu", *static_cast<uint64_t*>(parameters[i]));
    printf("\n");
    return 0;
}

API cuStreamCreate(void** stream, unsigned) { *stream = number(streams); return 0; }
API cuStreamSynchronize(void* stream) { printf("finish %ld\n", of(stream)); return 0; }
API cuEventCreate(void** event, unsigned) { *event = number(events); return 0; }
API cuEventRecord(void* event, void* stream) {
    printf("record %ld on %ld\n", of(event), of(stream));
    return 0;
}
API cuStreamWaitEvent(void* stream, void* event, unsigned) {
    printf("wait for %ld on %ld\n", of(event), of(stream));
    return 0;
}
API cuStreamBeginCapture_v2(void* stream, int) { printf("capture %ld\n", of(stream)); return 0; }
API cuStreamEndCapture(void* stream, void** graph) {
    printf("captured %ld\n", of(stream));
    *graph = stream;
    return 0;
}
API cuGraphInstantiateWithFlags(void** executable, void* graph, uint64_t) {
    *executable = graph;
    return 0;
}
API cuGraphDestroy(void*) { return 0; }
API cuGraphExecDestroy(void*) { printf("drop\n"); return 0; }
API cuGraphLaunch(void*, void* stream) { printf("replay on %ld\n", of(stream)); return 0; }

API cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* status) {
    char versioned[128];
    for (const char* suffix : {"_v2", ""}) {
        snprintf(versioned, sizeof versioned, "%s%s", name, suffix);
        if ((*function = dlsym(RTLD_DEFAULT, versioned))) break;
    }
    if (strcmp(name, "cuGraphInstantiate") == 0)
        *function = reinterpret_cast<void*>(cuGraphInstantiateWithFlags);
    if (status) *status = *function ? 0 : 1;
    return 0;
}
