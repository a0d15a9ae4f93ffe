// A CUDA driver without a card, for tests/test_cuda.py: memory is the processor's, a launch runs
// the kernels' own source thread after thread, and tiles are handed back to the test. Where the
// real header is installed the functions are checked against its prototypes.

#include <cstdlib>
#include <cstring>
#include <string>

#if __has_include(<cuda.h>)
#include <cuda.h>
#else
#include <cstddef>
enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1, CUDA_ERROR_NOT_FOUND = 500 };
enum CUdevice_attribute { CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75 };
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st* CUcontext;
typedef struct CUmod_st* CUmodule;
typedef struct CUfunc_st* CUfunction;
typedef struct CUstream_st* CUstream;
#define CUDAAPI
#endif

#include "host.cpp"

typedef void (*Tile)(const char*, const void*, const void*, const void*, void*, int);
static Tile tile;
static long long allocated;

extern "C" {

void set_tile(Tile given) { tile = given; }
long long still_allocated() { return allocated; }

CUresult CUDAAPI cuInit(unsigned) { return CUDA_SUCCESS; }
CUresult CUDAAPI cuDriverGetVersion(int* version) { *version = 13020; return CUDA_SUCCESS; }
CUresult CUDAAPI cuDeviceGet(CUdevice* device, int) { *device = 0; return CUDA_SUCCESS; }
CUresult CUDAAPI cuDeviceGetName(char* name, int length, CUdevice) {
    std::strncpy(name, "no card", length);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice) {
    *value = which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 9 : 0;
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
    *context = reinterpret_cast<CUcontext>(&allocated);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
    return context == reinterpret_cast<CUcontext>(&allocated) ? CUDA_SUCCESS
                                                              : CUDA_ERROR_INVALID_VALUE;
}
CUresult CUDAAPI cuCtxSynchronize() { return CUDA_SUCCESS; }
CUresult CUDAAPI cuModuleLoadData(CUmodule* module, const void* image) {
    *module = reinterpret_cast<CUmodule>(strdup(static_cast<const char*>(image)));
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    const std::string image = reinterpret_cast<const char*>(module);
    if (image.find(name) == std::string::npos) return CUDA_ERROR_NOT_FOUND;
    *function = reinterpret_cast<CUfunction>(strdup(name));
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuMemAlloc_v2(CUdeviceptr* place, size_t bytes) {
    *place = reinterpret_cast<CUdeviceptr>(std::malloc(bytes));
    ++allocated;
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuMemFree_v2(CUdeviceptr place) {
    std::free(reinterpret_cast<void*>(place));
    --allocated;
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
    std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuGetErrorString(CUresult, const char** text) {
    *text = "as the test asked";
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLaunchKernel(CUfunction function, unsigned blocks, unsigned, unsigned,
                                unsigned threads, unsigned, unsigned, unsigned, CUstream,
                                void** given, void**) {
    const std::string name = reinterpret_cast<const char*>(function);
    const auto at = [&](int i) { return *static_cast<float**>(given[i]); };
    const auto number = [&](int i) { return *static_cast<int*>(given[i]); };
    if (name.rfind("tile_", 0) == 0) {
        if (blocks != 1 || threads != 32) return CUDA_ERROR_INVALID_VALUE;
        tile(name.c_str(), at(0), at(1), at(2), at(3), number(4));
        return CUDA_SUCCESS;
    }
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) {
#define DOT(NAME) \
    if (name == #NAME) NAME(at(0), at(1), at(2), number(3), number(4), number(5));
#define OVER(NAME) \
    if (name == #NAME) NAME(at(0), at(1), number(2));
            DOT(sequential)
            DOT(sequential_fma)
            DOT(pairwise)
            DOT(warp_tree)
            if (name == "split_k")
                split_k(at(0), at(1), at(2), number(3), number(4), number(5), number(6));
            OVER(apply_exp)
            OVER(apply_tanh)
        }
    return CUDA_SUCCESS;
}
}
