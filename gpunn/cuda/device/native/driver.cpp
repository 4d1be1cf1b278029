// The driver's API (cuda.h), as far as CuPy and cuda.core call it.
#include <dlfcn.h>

#include <cstdio>
#include <cstring>

#include "../../emulator/runtime/tensor_map.h"
#include "module.h"

using namespace gpunn_device;

namespace {

// The primary contexts are all that there are: the handle of one is the number of its device, from 1.
typedef std::intptr_t Context;

Context primary_context(int device) { return device + 1; }

bool exists(int device) { return device >= 0 && device < settings.devices; }

}  // namespace

GPUNN_API int cuInit(unsigned flags) {
    note_use();
    return flags ? invalid_value : settings.devices ? success : no_device;
}

GPUNN_API int cuDriverGetVersion(int* version) {
    *version = settings.version;
    return success;
}

GPUNN_API int cuGetErrorName(int error, const char** text) {
    *text = driver_error_name(error);
    return success;
}

GPUNN_API int cuGetErrorString(int error, const char** text) {
    *text = error_text(error);
    return success;
}

// ---- devices and contexts -------------------------------------------------------------------------------------------

GPUNN_API int cuDeviceGetCount(int* count) {
    *count = settings.devices;
    return success;
}

GPUNN_API int cuDeviceGet(int* device, int number) {
    if (!exists(number)) return invalid_device;
    *device = number;
    return success;
}

GPUNN_API int cuDeviceGetAttribute(int* value, int number, int device) {
    return attribute(value, number, device);
}

GPUNN_API int cuDeviceGetName(char* name, int length, int device) {
    if (!exists(device)) return invalid_device;
    std::snprintf(name, (std::size_t)length, "%s", "gpunn emulated device");
    return success;
}

GPUNN_API int cuDeviceTotalMem_v2(std::size_t* bytes, int device) {
    if (!exists(device)) return invalid_device;
    *bytes = settings.memory;
    return success;
}

GPUNN_API int cuCtxGetCurrent(Context* context) {
    *context = has_context() ? primary_context(current_device()) : 0;
    return success;
}

GPUNN_API int cuCtxSetCurrent(Context context) {
    if (context) return set_device((int)context - 1);
    set_context(false);
    return success;
}

GPUNN_API int cuCtxGetDevice(int* device) {
    *device = current_device();
    return success;
}

GPUNN_API int cuDevicePrimaryCtxRetain(Context* context, int device) {
    if (!exists(device)) return invalid_device;
    *context = primary_context(device);
    return success;
}

GPUNN_API int cuDevicePrimaryCtxRelease_v2(int device) { return exists(device) ? success : invalid_device; }

GPUNN_API int cuCtxSynchronize() {
    Lock lock;
    return device_synchronize();
}

GPUNN_API int cuStreamGetCtx(std::intptr_t handle, Context* context) {
    Lock lock;
    Stream* stream = stream_of(handle);
    if (!stream) return invalid_handle;
    *context = primary_context(stream->device);
    return success;
}

// Contexts beside the primary ones are not there.
GPUNN_API int cuCtxCreate_v2(Context*, unsigned, int) { return not_supported; }
GPUNN_API int cuCtxDestroy_v2(Context) { return not_supported; }

// ---- modules and launches -------------------------------------------------------------------------------------------

GPUNN_API int cuModuleLoadData(Module** module, const void* image) {
    Lock lock;
    if (int error = broken()) return error;
    return module_load(image, 0, module);
}

GPUNN_API int cuModuleLoad(Module** module, const char* path) {
    std::FILE* file = std::fopen(path, "rb");
    if (!file) return file_not_found;
    std::vector<char> bytes;
    char part[65536];
    for (std::size_t n; (n = std::fread(part, 1, sizeof part, file));) bytes.insert(bytes.end(), part, part + n);
    std::fclose(file);
    if (bytes.size() < 64) return invalid_image;  // less than the header of an ELF file
    Lock lock;
    if (int error = broken()) return error;
    return module_load(bytes.data(), bytes.size(), module);
}

GPUNN_API int cuModuleUnload(Module* module) {
    Lock lock;
    return module_unload(module);
}

GPUNN_API int cuModuleGetFunction(Function** function, Module* module, const char* name) {
    Lock lock;
    return module_function(module, name, function);
}

GPUNN_API int cuModuleGetGlobal_v2(void** memory, std::size_t* bytes, Module* module, const char* name) {
    Lock lock;
    return module_global(module, name, memory, bytes);
}

GPUNN_API int cuFuncGetAttribute(int* value, int attribute, Function* function) {
    Lock lock;
    return function_attribute(function, attribute, value);
}

GPUNN_API int cuFuncSetAttribute(Function* function, int attribute, int value) {
    Lock lock;
    return function_set_attribute(function, attribute, value);
}

GPUNN_API int cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                             unsigned block_y, unsigned block_z, unsigned dynamic_shared, std::intptr_t stream,
                             void** parameters, void** extra) {
    Lock lock;
    if (extra) return not_supported;
    const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
    return launch(function, grid, block, dynamic_shared, stream, parameters, false);
}

GPUNN_API int cuLaunchCooperativeKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned dynamic_shared,
                                        std::intptr_t stream, void** parameters) {
    Lock lock;
    const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
    return launch(function, grid, block, dynamic_shared, stream, parameters, true);
}

// Tiled maps alone, of which the box is no narrower than its swizzle; what it refuses, and by which rules, is told by
// the driver API's manual.
GPUNN_API int cuTensorMapEncodeTiled(void* out, int type, unsigned rank, void* memory, const std::uint64_t* sizes,
                                     const std::uint64_t* strides, const std::uint32_t* box,
                                     const std::uint32_t* element_strides, int interleave, int swizzle, int,
                                     int fills_with_nan) {
    const unsigned element_bytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
    if ((std::uintptr_t)out % 64 || type < 0 || type > 12 || rank < 1 || rank > 5 || !memory ||
        (std::uintptr_t)memory % 16 || swizzle < 0 || swizzle > 3 || (fills_with_nan && type < 6))
        return invalid_value;
    if (interleave) return not_supported;
    gpunn_emulator::TensorMap map{};
    map.magic = gpunn_emulator::tensor_map_magic;
    map.memory = (char*)memory;
    map.rank = (std::uint8_t)rank;
    map.element_bytes = (std::uint8_t)element_bytes[type];
    map.fills_with_nan = fills_with_nan != 0;
    map.swizzle = (std::uint16_t)(swizzle ? 16 << swizzle : 0);
    for (unsigned i = 0; i < 5; i++) {
        bool given = i < rank;
        if (given && (!sizes[i] || sizes[i] > 1ull << 32 || !box[i] || box[i] > 256 || !element_strides[i] ||
                      element_strides[i] > 8 || (i && (strides[i - 1] % 16 || strides[i - 1] >= 1ull << 40))))
            return invalid_value;
        map.sizes[i] = given ? (std::uint32_t)sizes[i] : 1;
        map.box[i] = given ? (std::uint16_t)box[i] : 1;
        map.element_strides[i] = given ? (std::uint8_t)element_strides[i] : 1;
        if (i) map.strides[i - 1] = given ? strides[i - 1] : 0;
    }
    unsigned row = map.box[0] * map.element_bytes;
    if (row % 16 || (map.swizzle && row > map.swizzle)) return invalid_value;
    if (map.swizzle && row < map.swizzle) return not_supported;
    std::memset(out, 0, 128);
    std::memcpy(out, &map, sizeof map);
    return success;
}

GPUNN_API int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function* function, int threads,
                                                          std::size_t dynamic_shared) {
    Lock lock;
    *blocks = blocks_of(function, threads, dynamic_shared);
    return success;
}

GPUNN_API int cuOccupancyMaxPotentialBlockSize(int* grid, int* block, Function* function,
                                               std::size_t (*shared_by_threads)(int), std::size_t dynamic_shared,
                                               int limit) {
    Lock lock;
    if (shared_by_threads) return not_supported;
    *block = limit > 0 && limit < 1024 ? limit : 1024;
    *grid = blocks_of(function, *block, dynamic_shared) * card().multiprocessors;
    return success;
}

// ---- linking device code --------------------------------------------------------------------------------------------

GPUNN_API int cuLinkCreate_v2(unsigned, void*, void**, void**) { return not_supported; }
GPUNN_API int cuLinkAddData_v2(void*, int, void*, std::size_t, const char*, unsigned, void*, void**) {
    return not_supported;
}
GPUNN_API int cuLinkAddFile_v2(void*, int, const char*, unsigned, void*, void**) { return not_supported; }
GPUNN_API int cuLinkComplete(void*, void**, std::size_t*) { return not_supported; }
GPUNN_API int cuLinkDestroy(void*) { return not_supported; }

// ---- CUDA's own table of these --------------------------------------------------------------------------------------

// Versions differ in the end of a symbol's name.
GPUNN_API int cuGetProcAddress_v2(const char* name, void** function, int, std::uint64_t, int* status) {
    *function = nullptr;
    for (const char* ending : {"_v2", ""})
        if (!*function) *function = dlsym(RTLD_DEFAULT, (std::string(name) + ending).c_str());
    if (status) *status = *function ? 0 : 1;
    return *function ? success : not_found;
}

GPUNN_API int cuGetProcAddress(const char* name, void** function, int version, std::uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}
