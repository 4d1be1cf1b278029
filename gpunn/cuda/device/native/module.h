// Modules, which are libraries that the emulator's compiler has made, and launches of their kernels.
#pragma once
#include "device.h"

namespace gpunn_device {

struct Module;
struct Function;

GPUNN_SHARED int module_load(const void* image, std::size_t bytes, Module** out);
GPUNN_SHARED int module_unload(Module* module);
GPUNN_SHARED int module_function(Module* module, const char* name, Function** out);
GPUNN_SHARED int module_global(Module* module, const char* name, void** out, std::size_t* bytes);
GPUNN_SHARED int function_attribute(Function* function, int attribute, int* value);
GPUNN_SHARED int function_set_attribute(Function* function, int attribute, int value);
GPUNN_SHARED int blocks_of(Function* function, int threads, std::size_t dynamic_shared);
GPUNN_SHARED int launch(Function* function, const unsigned grid[3], const unsigned block[3], unsigned dynamic_shared,
                        std::intptr_t stream, void** parameters, bool cooperative);

}  // namespace gpunn_device
