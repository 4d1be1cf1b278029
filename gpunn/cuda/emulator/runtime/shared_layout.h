// Which __shared__ variables a library has, and where: to the host's compiler they are variables of a thread.
#pragma once
#include <cstddef>
#include <vector>

#include "launch.h"

namespace gpunn_emulator {

// Offsets within the thread-local memory of the library, in order.
struct SharedLayout {
    std::vector<Span> variables;
    // Bytes where the compiler asks whether it has constructed an array of classes. CUDA constructs none, and has none.
    std::vector<std::size_t> guards;
};

// That of the library that begins at `base`; empty where its file cannot be read.
const SharedLayout& shared_layout_of(const char* base);

}  // namespace gpunn_emulator
