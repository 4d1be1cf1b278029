// What code compiled with -fsanitize=thread and -fsanitize=undefined calls. The sanitizers' own libraries are
// not linked: they know host threads, and not blocks, warps and barriers.
#include <cstdio>
#include <cstring>

#include "checker.h"

using namespace gpunn_emulator;

#define GPUNN_HOOK extern "C" __attribute__((visibility("default")))
#define GPUNN_PC __builtin_return_address(0)

// --- every access to memory that another thread could reach ----------------------------------------------

#define GPUNN_ACCESS_HOOKS(bytes)                                                                                     \
    GPUNN_HOOK void __tsan_read##bytes(char* p) { checker.access(p, bytes, false, Manner::plain, GPUNN_PC); }         \
    GPUNN_HOOK void __tsan_write##bytes(char* p) { checker.access(p, bytes, true, Manner::plain, GPUNN_PC); }         \
    GPUNN_HOOK void __tsan_unaligned_read##bytes(char* p) {                                                           \
        checker.access(p, bytes, false, Manner::plain, GPUNN_PC);                                                     \
    }                                                                                                                 \
    GPUNN_HOOK void __tsan_unaligned_write##bytes(char* p) {                                                          \
        checker.access(p, bytes, true, Manner::plain, GPUNN_PC);                                                      \
    }

GPUNN_ACCESS_HOOKS(1)
GPUNN_ACCESS_HOOKS(2)
GPUNN_ACCESS_HOOKS(4)
GPUNN_ACCESS_HOOKS(8)
GPUNN_ACCESS_HOOKS(16)

GPUNN_HOOK void __tsan_read_range(char* p, std::size_t bytes) {
    checker.access(p, bytes, false, Manner::plain, GPUNN_PC);
}
GPUNN_HOOK void __tsan_write_range(char* p, std::size_t bytes) {
    checker.access(p, bytes, true, Manner::plain, GPUNN_PC);
}

// What clang calls for copies of structs, too: before its version 15 the plain functions, which ../build.py has the
// linker wrap.
#define GPUNN_MEMORY_HOOKS(prefix)                                                                                    \
    GPUNN_HOOK void* prefix##memcpy(char* to, const char* from, std::size_t bytes) {                                  \
        checker.access(from, bytes, false, Manner::plain, GPUNN_PC);                                                  \
        checker.access(to, bytes, true, Manner::plain, GPUNN_PC);                                                     \
        return std::memcpy(to, from, bytes);                                                                          \
    }                                                                                                                 \
    GPUNN_HOOK void* prefix##memmove(char* to, const char* from, std::size_t bytes) {                                 \
        checker.access(from, bytes, false, Manner::plain, GPUNN_PC);                                                  \
        checker.access(to, bytes, true, Manner::plain, GPUNN_PC);                                                     \
        return std::memmove(to, from, bytes);                                                                         \
    }                                                                                                                 \
    GPUNN_HOOK void* prefix##memset(char* to, int value, std::size_t bytes) {                                         \
        checker.access(to, bytes, true, Manner::plain, GPUNN_PC);                                                     \
        return std::memset(to, value, bytes);                                                                         \
    }

GPUNN_MEMORY_HOOKS(__tsan_)
GPUNN_MEMORY_HOOKS(__wrap_)
GPUNN_HOOK void __tsan_vptr_update(char* p, void*) { checker.access(p, sizeof p, true, Manner::plain, GPUNN_PC); }
GPUNN_HOOK void __tsan_vptr_read(char* p) { checker.access(p, sizeof p, false, Manner::plain, GPUNN_PC); }
GPUNN_HOOK void __tsan_init() {}
GPUNN_HOOK void __tsan_func_entry(void*) {}
GPUNN_HOOK void __tsan_func_exit() {}

// --- undefined operations --------------------------------------------------------------------------------

namespace {

// The compiler's descriptions of a place and a type, as its runtime library has them.
struct Place {
    const char* file;
    std::uint32_t line, column;
};

struct Type {
    std::uint16_t kind, info;
    char name[1];
};

Report describe(Kind kind, const Place& place, const void* pc) {
    Report report = worker->describe(kind, pc);
    report.file = place.file;
    report.line = (int)place.line;
    return report;
}

void report_overflow(const Place& place, const char* operation, const void* pc) {
    Report report = describe(Kind::integer_overflow, place, pc);
    report.harmless = (int)Harmless::wraps;
    std::snprintf(report.message, sizeof report.message, "the result of %s does not fit its signed type",
                  operation);
    worker->add(report);
}

struct Misalignment {
    Place place;
    const Type* type;
    unsigned char log_alignment, access;
};

struct Index {
    Place place;
    const Type *array, *index;
};

}  // namespace

// The hardware stops at a misaligned access, so the block does. Else the access is not inside the variable that the
// compiler knows it is for. No access of the hardware's is longer than 16 bytes, whatever a struct asks for.
GPUNN_HOOK void __ubsan_handle_type_mismatch_v1(const Misalignment* found, void* address) {
    const unsigned longest = 16, alignment = 1u << found->log_alignment;
    if (alignment > longest && (std::uintptr_t)address % alignment && (std::uintptr_t)address % longest == 0) return;
    if ((std::uintptr_t)address % alignment == 0) {
        Report report = describe(Kind::bounds, found->place, GPUNN_PC);
        std::snprintf(report.message, sizeof report.message, "an access to %s outside the variable that it is for", found->type->name);
        worker->fail(report);
    }
    Report report = describe(Kind::misaligned, found->place, GPUNN_PC);
    std::snprintf(report.message, sizeof report.message, "address %p is not a multiple of %u, as %s needs",
                  address, alignment, found->type->name);
    worker->fail(report);
}

GPUNN_HOOK void __ubsan_handle_out_of_bounds(const Index* found, long index) {
    Report report = describe(Kind::bounds, found->place, GPUNN_PC);
    std::snprintf(report.message, sizeof report.message, "index %ld is outside %s", index,
                  found->array->name);
    worker->fail(report);
}

// The host traps where a GPU would continue with a meaningless number.
GPUNN_HOOK void __ubsan_handle_divrem_overflow(const Place* place, void*, void*) {
    Report report = describe(Kind::division, *place, GPUNN_PC);
    std::snprintf(report.message, sizeof report.message,
                  "integer division by zero, or its result does not fit");
    worker->fail(report);
}

GPUNN_HOOK void __ubsan_handle_shift_out_of_bounds(const Place* place, void*, long count) {
    Report report = describe(Kind::shift, *place, GPUNN_PC);
    std::snprintf(report.message, sizeof report.message,
                  "shift by %ld, which is not less than the type's bits", count);
    worker->add(report);
}

namespace gpunn_emulator {

void note_shift(int bits) {
    Report report = worker->describe(Kind::shift, GPUNN_PC);
    report.harmless = (int)Harmless::shifts_all;
    std::snprintf(report.message, sizeof report.message, "shift by %d, which is not less than the type's bits", bits);
    worker->add(report);
}

}  // namespace gpunn_emulator

#define GPUNN_OVERFLOW_HOOK(name, operation)                                                                          \
    GPUNN_HOOK void __ubsan_handle_##name##_overflow(const Place* place, void*, void*) {                              \
        report_overflow(*place, operation, GPUNN_PC);                                                                 \
    }

GPUNN_OVERFLOW_HOOK(add, "+")
GPUNN_OVERFLOW_HOOK(sub, "-")
GPUNN_OVERFLOW_HOOK(mul, "*")
GPUNN_OVERFLOW_HOOK(negate, "negation")
