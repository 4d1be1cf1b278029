#include "context.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace gpunn_emulator {

namespace {

// CUDA allows a thread 512 KiB of local memory. The rest is for what a GPU has no stack for: the host's frames, the
// library's functions (printf), a signal's. Only the pages that are touched take memory.
const std::size_t stack_bytes = (512 + 64) * 1024;

// No frame that fits a stack can step over this, in code without probes either: the library's, or that of clang on
// processors for which it sets none. In kernels, every page of a frame is touched in turn (build.py). The odd page
// spreads the tops of stacks over the sets of the second-level cache: without it a barrier takes half as long again.
const std::size_t guard_bytes = stack_bytes + (std::size_t)sysconf(_SC_PAGESIZE);

// Above a stack nothing lies either: kernels take it for their own so far above their stack pointer, see
// ../assembly.py.
const std::size_t near_bytes = 64 * 1024;

const std::size_t mapped_bytes = guard_bytes + stack_bytes + near_bytes;

const std::size_t trimmed_bytes = stack_bytes - 16 * 1024;

// Stacks start at different places of a page: all at the same place, the tops of a thousand stacks would
// share a few sets of the first-level cache, and every switch would miss it.
const std::size_t colours = 16, colour_bytes = 192;

}  // namespace

bool map_stack(Stack& stack, std::size_t number) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory = mmap(nullptr, mapped_bytes, PROT_NONE, flags, -1, 0);
    if (memory == MAP_FAILED) return false;
    stack.low = (char*)memory + guard_bytes;
    stack.high = stack.low + stack_bytes - number % colours * colour_bytes;
    if (mprotect(stack.low, stack_bytes, PROT_READ | PROT_WRITE) == 0) return true;
    int reason = errno;
    munmap(memory, mapped_bytes);
    errno = reason;
    return false;
}

void unmap_stack(const Stack& stack) { munmap(stack.low - guard_bytes, mapped_bytes); }

bool overflows(const Stack& stack, const void* address) {
    return (const char*)address < stack.low && (const char*)address >= stack.low - guard_bytes;
}

void trim_stack(const Stack& stack) { madvise(stack.low, trimmed_bytes, MADV_DONTNEED); }

const char* memory_failure() {
    return errno == ENOMEM ? "no memory, or a limit on it is reached (ulimit -v, vm.max_map_count)"
                           : "the system refuses to map it";
}

#ifdef GPUNN_EMULATOR_UCONTEXT

void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }

void start_context(Context& context, const Stack& stack, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack.low;
    context.uc_stack.ss_size = (std::size_t)(stack.high - stack.low);
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}

#elif defined(__x86_64__)

// Saves what the calling convention asks a function to preserve, exchanges the stack pointers, restores the
// same.
extern "C" void gpunn_switch_stacks(void** save_here, void* go_there);
asm(R"(
.text
.local gpunn_switch_stacks
.type gpunn_switch_stacks, @function
gpunn_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size gpunn_switch_stacks, .-gpunn_switch_stacks
)");

const std::size_t saved_registers = 6;

void start_context(Context& context, const Stack& stack, void (*entry)()) {
    void** top = (void**)((std::size_t)stack.high & ~(std::size_t)15);
    *--top = nullptr;       // a return address, so that the stack is aligned as after a call
    *--top = (void*)entry;  // where `ret` goes
    top -= saved_registers;
    for (std::size_t i = 0; i < saved_registers; i++) top[i] = nullptr;
    context.stack_pointer = top;
}

#elif defined(__aarch64__)

extern "C" void gpunn_switch_stacks(void** save_here, void* go_there);
asm(R"(
.text
.local gpunn_switch_stacks
.type gpunn_switch_stacks, %function
gpunn_switch_stacks:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size gpunn_switch_stacks, .-gpunn_switch_stacks
)");

const std::size_t saved_registers = 20, link_register = 11;

void start_context(Context& context, const Stack& stack, void (*entry)()) {
    void** top = (void**)((std::size_t)stack.high & ~(std::size_t)15) - saved_registers;
    for (std::size_t i = 0; i < saved_registers; i++) top[i] = nullptr;
    top[link_register] = (void*)entry;
    context.stack_pointer = top;
}

#endif

#ifndef GPUNN_EMULATOR_UCONTEXT
void switch_context(Context& from, Context& to) {
    gpunn_switch_stacks(&from.stack_pointer, to.stack_pointer);
}
#endif

}  // namespace gpunn_emulator
