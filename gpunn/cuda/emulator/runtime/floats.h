// Operations that make a NaN or an infinity of other numbers: the processor stops at them, on x86-64.
#pragma once
#include <signal.h>

namespace gpunn_emulator {

// Bits of Request::floats.
const int watch_nan = 1, watch_infinity = 2;

// From here on this host thread gets a signal for what is wanted; none for 0.
void watch_floats(int wanted);

// A signal that was let pass has ended that: who runs next asks for it again.
extern bool floats_pass;

// Reports the operation that the signal came for, if it is one; the kernel goes on. Returns false if the signal is for
// something else.
bool handle_float_exception(const siginfo_t& info, void* context);

}  // namespace gpunn_emulator
