#include "floats.h"

#include <fenv.h>
#include <ucontext.h>
#include <unwind.h>

#include <cstdio>

#include "worker.h"

namespace gpunn_emulator {

bool floats_pass = false;

void watch_floats(int wanted) {
    floats_pass = false;
    fedisableexcept(FE_ALL_EXCEPT);
    feclearexcept(FE_ALL_EXCEPT);  // which exception a signal is for is told by all that have been raised
    if (wanted & watch_nan) feenableexcept(FE_INVALID);
    if (wanted & watch_infinity) feenableexcept(FE_DIVBYZERO | FE_OVERFLOW);
}

#ifdef __x86_64__

namespace {

const char* named(unsigned char opcode, bool fused) {
    if (fused) return opcode >= 0x96 && opcode <= 0xbf && (opcode & 15) >= 6 ? "a product and a sum" : nullptr;
    switch (opcode) {
    case 0x51: return "a square root";
    case 0x58: return "a sum";
    case 0x59: return "a product";
    case 0x5c: return "a difference";
    case 0x5e: return "a quotient";
    default: return nullptr;
    }
}

// What an instruction computes, or null if that is no arithmetic: comparisons, minima and conversions raise the
// exception for an operand that is a NaN already. Of the encodings these are the ones of SSE, AVX and AVX-512.
const char* operation_at(const unsigned char* code) {
    while (*code == 0x66 || *code == 0xf2 || *code == 0xf3) code++;
    if ((*code & 0xf0) == 0x40) code++;
    switch (*code) {
    case 0x0f: return named(code[1], false);
    case 0xc5: return named(code[2], false);
    case 0xc4: return named(code[3], (code[1] & 31) == 2);
    case 0x62: return named(code[4], (code[1] & 7) == 2);
    default: return nullptr;
    }
}

struct Calls {
    const Library& library;
    const char* instruction;  // where the signal came
    Report& report;
    int count;
};

// Takes the place in the kernel and those it was called from, the last call first.
_Unwind_Reason_Code add_call(_Unwind_Context* frame, void* data) {
    Calls& calls = *(Calls*)data;
    const char* pc = (const char*)_Unwind_GetIP(frame);  // where it goes on after a call
    if (pc == calls.instruction) pc++;
    if (pc < calls.library.image_begin || pc >= calls.library.image_end)
        return calls.report.pc ? _URC_END_OF_STACK : _URC_NO_REASON;
    if (!calls.report.pc) calls.report.pc = pc;
    else calls.report.callers[calls.count++] = pc;
    return calls.count < most_callers ? _URC_NO_REASON : _URC_END_OF_STACK;
}

}  // namespace

bool handle_float_exception(const siginfo_t& info, void* context) {
    bool is_nan = info.si_code == FPE_FLTINV;
    if (!is_nan && info.si_code != FPE_FLTDIV && info.si_code != FPE_FLTOVF) return false;
    mcontext_t& machine = ((ucontext_t*)context)->uc_mcontext;
    const unsigned raised = 0x3f, all_masked = 0x1f80;
    machine.fpregs->mxcsr = (machine.fpregs->mxcsr & ~raised) | all_masked;
    floats_pass = true;
    const char* pc = (const char*)machine.gregs[REG_RIP];
    const char* operation = operation_at((const unsigned char*)pc);
    if (!operation && is_nan) return true;
    Report report = worker->describe(is_nan ? Kind::nan : Kind::infinity, nullptr);
    const Library& library = *worker->request().library;
    Calls calls{library, pc, report, 0};
    _Unwind_Backtrace(add_call, &calls);
    if (!operation) operation = "a conversion";
    if (pc < library.image_begin || pc >= library.image_end) operation = "a function";
    const char* format = is_nan ? "%s of numbers is a NaN" : "%s of finite numbers is infinite";
    std::snprintf(report.message, sizeof report.message, format, operation);
    worker->add(report);
    return true;
}

#else

bool handle_float_exception(const siginfo_t&, void*) { return false; }

#endif

}  // namespace gpunn_emulator
