// Where the host's compiler asks whether it has constructed an array of classes: a byte beside the variables that are
// kept for each thread, and __shared__ ones are such. CUDA constructs none, and has no such bytes.
#pragma once
#include <cstddef>
#include <vector>

namespace gpunn_emulator {

// Offsets of these bytes, in order, within the thread-local memory of the library that begins at `base`; none where
// its file cannot be read.
const std::vector<std::size_t>& guards_of(const char* base);

}  // namespace gpunn_emulator
