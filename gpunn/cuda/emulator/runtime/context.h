// Stacks, and switching between them.
#pragma once
#include <cstddef>

// Assembly where we have it: ucontext makes two system calls a switch, which is 6 to 11 times slower.
#if !defined(GPUNN_EMULATOR_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define GPUNN_EMULATOR_UCONTEXT 1
#endif
#ifdef GPUNN_EMULATOR_UCONTEXT
#include <ucontext.h>
#endif

namespace gpunn_emulator {

#ifdef GPUNN_EMULATOR_UCONTEXT
typedef ucontext_t Context;
#else
struct Context {
    void* stack_pointer;
};
#endif

struct Stack {
    char* low;
    char* high;
};

// Leaves the running context in `from` and continues with `to`; returns when something switches back to `from`.
void switch_context(Context& from, Context& to);

// Makes `context` one that starts `entry` on an empty stack. `entry` must never return.
void start_context(Context& context, const Stack& stack, void (*entry)());

// Maps a stack with memory below it that cannot be touched, so that an overflow faults. Returns false, and says in
// errno why, if it cannot be had.
bool map_stack(Stack& stack, std::size_t number);

void unmap_stack(const Stack& stack);

// Whether an address is in the part below a stack that cannot be touched.
bool overflows(const Stack& stack, const void* address);

// Gives back the memory of a stack that is not in use, but for the part that every thread touches.
void trim_stack(const Stack& stack);

// Why a call failed for want of memory, from errno.
const char* memory_failure();

}  // namespace gpunn_emulator
