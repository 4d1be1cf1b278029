// The process's signal handlers while kernels run. A library of its own, because both modes' runtimes need them
// and only one owner can put back what was there before.
#pragma once
#include <signal.h>

namespace gpunn_emulator {

// What a host thread that works on a launch does about a signal that comes to it.
struct SignalTarget {
    // A fault. Does not return if a kernel made it.
    void (*fault)(int signal, siginfo_t* info, void* context);
    // Another signal, after its handler has been called: whoever started the launch has to act on it. Or, `by_launch`,
    // the signal `interrupting` that launches send to their own threads.
    void (*interrupt)(bool by_launch, void* context);
};

const int interrupting = SIGURG;  // ignored where no handler is in place

}  // namespace gpunn_emulator

extern "C" {
// Handlers are in place while anybody holds them.
void gpunn_signals_hold();
void gpunn_signals_release();

// Chooses what is done in this host thread; null: what would be done without us.
void gpunn_signals_set_target(const gpunn_emulator::SignalTarget* target);
}
