// Which variables a library has outside of functions, and where.
#pragma once
#include <cstddef>
#include <vector>

#include "launch.h"

namespace gpunn_emulator {

// Spans are in order.
struct Variables {
    // To the host's compiler these are variables of a thread: offsets within the thread-local memory of the library.
    std::vector<Span> shared;
    // Bytes where the compiler asks whether it has constructed an array of classes. CUDA constructs none, and has none.
    std::vector<std::size_t> guards;
    // Those that have a gap behind them, see ../assembly.py, and among them those of constant memory: offsets in the
    // library.
    std::vector<Span> device;
    Span constant{0, 0};
};

// Those of the library that begins at `base`; none where its file cannot be read.
const Variables& variables_of(const char* base);

// The one that begins last of those that begin at `offset` or before, or null.
const Span* variable_before(const std::vector<Span>& variables, std::size_t offset);

}  // namespace gpunn_emulator
