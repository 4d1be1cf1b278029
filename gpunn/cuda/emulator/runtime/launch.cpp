// From a request to its reports: host threads, faults, and the C functions that Python calls.
#include "launch.h"

#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <ucontext.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <system_error>
#include <thread>

#include "worker.h"
#ifdef GPUNN_EMULATOR_CHECK
#include "checker.h"
#endif

namespace gpunn_emulator {

// --- the blocks of a launch ------------------------------------------------------------------------------

Launch::Launch(const Request& request)
    : request(request), block_count((std::uint64_t)request.grid[0] * request.grid[1] * request.grid[2]) {
    if (request.order != (int)Order::shuffled) return;
    // A stride that shares no factor with the count visits every block once.
    std::uint64_t scattered = request.seed * 0x9e3779b97f4a7c15u;
    offset_ = (scattered >> 32) % block_count;
    stride_ = (scattered & 0xffffffff) % block_count;
    while (std::gcd(stride_, block_count) != 1) stride_ = stride_ % block_count + 1;
}

std::int64_t Launch::take_block() {
    if (stopped_.load(std::memory_order_relaxed)) return -1;
    std::uint64_t turn = next_.fetch_add(1, std::memory_order_relaxed);
    return turn < block_count ? (std::int64_t)place(turn) : -1;
}

std::uint64_t Launch::place(std::uint64_t turn) const {
    switch ((Order)request.order) {
    case Order::forward: return turn;
    case Order::reverse: return block_count - 1 - turn;
    case Order::shuffled: break;
    }
    return (std::uint64_t)(((unsigned __int128)turn * stride_ + offset_) % block_count);
}

void Launch::add(const Report& report) {
    std::lock_guard<std::mutex> lock(mutex_);
#ifdef GPUNN_EMULATOR_CHECK
    // Every mistake is worth seeing, once: a checked launch goes on.
    for (const Report& known : reports)
        if (known.kind == report.kind && known.pc == report.pc && known.file == report.file &&
            known.line == report.line)
            return;
#else
    stopped_ = true;
#endif
    reports.push_back(report);
}

namespace {

// --- workers ---------------------------------------------------------------------------------------------

// Idle workers, kept because their stacks are mapped and in the cache.
std::mutex workers_mutex;
std::vector<Worker*>& idle_workers() {
    static std::vector<Worker*>* workers =
        new std::vector<Worker*>();  // never destroyed: threads may outlive main
    return *workers;
}

Worker* borrow_worker() {
    std::lock_guard<std::mutex> lock(workers_mutex);
    std::vector<Worker*>& idle = idle_workers();
    if (idle.empty()) return new Worker();
    Worker* worker = idle.back();
    idle.pop_back();
    return worker;
}

void return_worker(Worker* worker) {
    std::lock_guard<std::mutex> lock(workers_mutex);
    idle_workers().push_back(worker);
}

// --- faults ----------------------------------------------------------------------------------------------

const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE};
const int fault_signal_count = 3;

struct sigaction previous_actions[fault_signal_count];
int handler_users = 0;
std::mutex handler_mutex;

const void* faulting_instruction(void* context) {
#if defined(__x86_64__)
    return (const void*)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (const void*)((ucontext_t*)context)->uc_mcontext.pc;
#else
    (void)context;
    return nullptr;
#endif
}

// A fault in a kernel ends the launch with a report. A fault anywhere else goes to whoever handled it before.
void handle_fault(int signal, siginfo_t* info, void* context) {
    if (!worker || !worker->runs_kernel()) {
        for (int i = 0; i < fault_signal_count; i++)
            if (fault_signals[i] == signal) sigaction(signal, &previous_actions[i], nullptr);
        return;  // the instruction runs again and faults again
    }
    const char* pc = (const char*)faulting_instruction(context);
    Report report = worker->describe(signal == SIGFPE ? Kind::division : Kind::fault, pc ? pc + 1 : nullptr);
    if (signal == SIGFPE)
        std::snprintf(report.message, sizeof report.message,
                      "integer division by zero, or its result does not fit");
    else std::snprintf(report.message, sizeof report.message, "invalid access at address %p", info->si_addr);
    worker->fail(report);
}

// Handlers are in place only while a kernel runs: they are the process's, not ours.
class FaultHandlers {
public:
    FaultHandlers() {
        std::lock_guard<std::mutex> lock(handler_mutex);
        if (handler_users++) return;
        struct sigaction action {};
        action.sa_sigaction = handle_fault;
        // On a stack of its own, because the fiber's may be what overflowed; not deferred, because the
        // handler is left by a jump.
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < fault_signal_count; i++)
            sigaction(fault_signals[i], &action, &previous_actions[i]);
    }
    ~FaultHandlers() {
        std::lock_guard<std::mutex> lock(handler_mutex);
        if (--handler_users) return;
        for (int i = 0; i < fault_signal_count; i++)
            sigaction(fault_signals[i], &previous_actions[i], nullptr);
    }
};

// The stack of this host thread's fault handler.
class FaultStack {
public:
    FaultStack() {
        stack_t stack{};
        stack.ss_sp = memory_;
        stack.ss_size = sizeof memory_;
        sigaltstack(&stack, &previous_);
    }
    ~FaultStack() { sigaltstack(&previous_, nullptr); }

private:
    char memory_[32 * 1024];
    stack_t previous_{};
};

// --- host threads ----------------------------------------------------------------------------------------

template <class AfterBlock> void work_here(Launch& launch, AfterBlock after_block) {
    FaultStack fault_stack;
    Worker* mine = borrow_worker();
    mine->work(launch, after_block);
    return_worker(mine);
}

#ifndef GPUNN_EMULATOR_CHECK

unsigned core_count() {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (unsigned)CPU_COUNT(&set);
    return std::thread::hardware_concurrency();
}

// The calling thread, joined by one more per core once the launch proves to be long enough to pay for them.
// They are started anew for every launch: a pool that waits would not survive a fork.
class Team {
public:
    explicit Team(Launch& launch) : launch_(launch), start_(Clock::now()) {}

    void work() {
        work_here(launch_, [this] { call_helpers_if_long(); });
        for (std::thread& helper : helpers_) helper.join();
    }

private:
    typedef std::chrono::steady_clock Clock;

    void call_helpers_if_long() {
        if (called_ || launch_.block_count < 2 || Clock::now() - start_ < std::chrono::microseconds(30))
            return;
        called_ = true;
        // Signals meant for the process are Python's to handle, in its own thread.
        sigset_t all, before;
        sigfillset(&all);
        for (int signal : fault_signals) sigdelset(&all, signal);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        unsigned wanted = core_count() - 1;
        if (wanted > launch_.block_count - 1) wanted = (unsigned)launch_.block_count - 1;
        try {
            while (helpers_.size() < wanted) helpers_.emplace_back([this] { work_here(launch_, [] {}); });
        } catch (const std::system_error&) {
            // No more threads to be had: those that are there do the work.
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    Launch& launch_;
    Clock::time_point start_;
    bool called_ = false;
    std::vector<std::thread> helpers_;
};

#endif

// A fork copies the locks as they are; holding them meanwhile means that the child finds them free.
void hold_locks() {
    workers_mutex.lock();
    handler_mutex.lock();
}
void free_locks() {
    handler_mutex.unlock();
    workers_mutex.unlock();
}
void free_locks_in_child() {
    handler_users = 0;  // the threads whose launches these were do not exist here
    free_locks();
}
const int fork_handlers = pthread_atfork(hold_locks, free_locks, free_locks_in_child);

thread_local std::vector<Report> last_reports;

// --- the kernel's library --------------------------------------------------------------------------------

struct LibrarySearch {
    const char* address;
    Library* found;
};

int look_at_object(dl_phdr_info* info, std::size_t, void* data) {
    LibrarySearch& search = *(LibrarySearch*)data;
    const char* base = (const char*)info->dlpi_addr;
    bool inside = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr)& segment = info->dlpi_phdr[i];
        const char* begin = base + segment.p_vaddr;
        if (segment.p_type == PT_LOAD && search.address >= begin && search.address < begin + segment.p_memsz)
            inside = true;
    }
    if (!inside) return 0;
    Library& library = *search.found;
    library = Library{base, info->dlpi_tls_modid, 0, nullptr, nullptr, base, base};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr)& segment = info->dlpi_phdr[i];
        const char *begin = base + segment.p_vaddr, *end = begin + segment.p_memsz;
        if (segment.p_type == PT_TLS) library.shared_bytes = segment.p_memsz;
        if (segment.p_type != PT_LOAD) continue;
        if (end > library.image_end) library.image_end = end;
        if (segment.p_flags & PF_W) {
            library.data_begin = (char*)begin;
            library.data_end = (char*)end;
        }
    }
    return 1;
}

}  // namespace

unsigned long long nanoseconds_now() {
    return (unsigned long long)std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

unsigned long long clock_now() { return nanoseconds_now(); }

}  // namespace gpunn_emulator

using namespace gpunn_emulator;

#define GPUNN_API extern "C" __attribute__((visibility("default")))

// Describes the library that holds `address`; returns 0 when there is none.
GPUNN_API int gpunn_emulator_find_library(const char* address, Library* library) {
    LibrarySearch search{address, library};
    return dl_iterate_phdr(look_at_object, &search);
}

// Runs a kernel and returns the number of reports, which gpunn_emulator_report then gives to the same host
// thread.
GPUNN_API int gpunn_emulator_launch(const Request* request) {
    FaultHandlers handlers;
    Launch launch(*request);
#ifdef GPUNN_EMULATOR_CHECK
    static std::mutex one_at_a_time;  // the shadow memory describes one launch
    std::lock_guard<std::mutex> lock(one_at_a_time);
    checker.begin_launch(launch);
    work_here(launch, [] {});
    checker.end_launch();
#else
    Team(launch).work();
#endif
    std::fflush(stdout);  // a kernel's printf goes through C's buffer, Python's does not
    last_reports = std::move(launch.reports);
    return (int)last_reports.size();
}

GPUNN_API void gpunn_emulator_report(int i, Report* report) { *report = last_reports[(std::size_t)i]; }
