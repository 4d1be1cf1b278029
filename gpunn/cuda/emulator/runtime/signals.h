// The process's signal handlers while kernels run. A library of its own, because both modes' runtimes need them
// and only one owner can put back what was there before.
#pragma once
#include <signal.h>

namespace gpunn_emulator {

// What a host thread that works on a launch does about a signal that comes to it.
struct SignalTarget {
    // A fault. Does not return if a kernel made it, unless the kernel can go on: then it returns true.
    bool (*fault)(int signal, siginfo_t* info, void* context);
    // The signal `interrupting`, if its code is this one.
    void (*interrupt)(void* context);
    int interrupt_code;
};

// Launches send it to their own threads. It is ignored where no handler is in place.
const int interrupting = SIGURG;

}  // namespace gpunn_emulator

extern "C" {
// Handlers are in place while anybody holds them.
void gpunn_signals_hold();
void gpunn_signals_release();

// Chooses what is done in this host thread, and returns true; false if that is chosen already.
bool gpunn_signals_set_target(const gpunn_emulator::SignalTarget* target);
// What would be done without us, again.
void gpunn_signals_clear_target();
}
