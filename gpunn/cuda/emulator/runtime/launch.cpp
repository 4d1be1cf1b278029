// From a request to its reports: host threads, faults, and the C functions that Python calls.
#include "launch.h"

#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cfenv>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <new>
#include <numeric>
#include <system_error>
#include <thread>

#include "cluster.h"
#include "floats.h"
#include "signals.h"
#include "worker.h"
#include "watcher.h"

namespace gpunn_emulator {

// --- the blocks of a launch ------------------------------------------------------------------------------

// Room for reports is taken beforehand, for want of memory may be what is reported. In fast mode every worker stops
// at its first.
#ifdef GPUNN_EMULATOR_CHECK
const std::size_t most_reports = 1024;
#else
const std::size_t most_reports = 16;
#endif

Launch::Launch(const Request& request)
    : request(request),
      cluster_size(std::max(1u, request.cluster[0] * request.cluster[1] * request.cluster[2])),
      block_count((std::uint64_t)request.grid[0] * request.grid[1] * request.grid[2]),
      taken_together_(block_count / cluster_size) {
    reports.reserve(most_reports);
    if (request.order != (int)Order::shuffled) return;
    // A stride that shares no factor with the count visits every block once.
    std::uint64_t scattered = request.seed * 0x9e3779b97f4a7c15u;
    offset_ = (scattered >> 32) % taken_together_;
    stride_ = (scattered & 0xffffffff) % taken_together_;
    while (std::gcd(stride_, taken_together_) != 1) stride_ = stride_ % taken_together_ + 1;
}

std::int64_t Launch::take_block() {
    if (stopped_.load(std::memory_order_relaxed)) return -1;
    std::uint64_t turn = next_.fetch_add(1, std::memory_order_relaxed);
    return turn < taken_together_ ? (std::int64_t)place(turn) : -1;
}

std::uint64_t Launch::place(std::uint64_t turn) const {
#ifdef GPUNN_EMULATOR_COUNT
    return turn;  // as a GPU starts them: what the cache holds must not depend on the order
#endif
    switch ((Order)request.order) {
    case Order::forward: return turn;
    case Order::reverse: return taken_together_ - 1 - turn;
    case Order::shuffled: break;
    }
    return (std::uint64_t)(((unsigned __int128)turn * stride_ + offset_) % taken_together_);
}

std::uint64_t Launch::arrive_at_grid() {
    std::lock_guard<std::mutex> lock(mutex_);
    std::uint64_t turn = grid_turn_ + 1;
    changes_++;
    if (++arrived_ < block_count) return turn;
    arrived_ = 0;
    grid_turn_ = turn;
    grid_turns_.notify_all();
    return turn;
}

void Launch::wait_for_grid(std::uint64_t turn, std::chrono::milliseconds most) {
    std::unique_lock<std::mutex> lock(mutex_);
    grid_turns_.wait_for(lock, most, [=] { return grid_turn_ >= turn || stopped_; });
}

void Launch::note_ended(bool given_up) {
    if (given_up) given_up_ = true;
    ended_++;
}

bool Launch::grid_is_hopeless() {
    std::lock_guard<std::mutex> lock(mutex_);
    return ended_ && arrived_ + ended_ == block_count;
}

void Launch::add(const Report& report) {
    std::lock_guard<std::mutex> lock(mutex_);
#ifdef GPUNN_EMULATOR_CHECK
    // Every mistake is worth seeing, once: a checked launch continues.
    for (Report& known : reports)
        if (known.kind == report.kind && known.pc == report.pc && known.file == report.file &&
            known.line == report.line) {
            if (known.harmless && !report.harmless) known = report;
            return;
        }
#else
    stopped_ = true;
#endif
    if (reports.size() < most_reports) reports.push_back(report);
}

namespace {

// --- workers ---------------------------------------------------------------------------------------------

// Idle workers, kept because their stacks are mapped and in the cache.
std::mutex workers_mutex;
std::size_t workers_made = 0;
std::vector<Worker*>& idle_workers() {
    static std::vector<Worker*>* workers =
        new std::vector<Worker*>();  // never destroyed: threads may outlive main
    return *workers;
}

Worker* borrow_worker() {
    std::lock_guard<std::mutex> lock(workers_mutex);
    std::vector<Worker*>& idle = idle_workers();
    if (idle.empty()) {
        idle.reserve(++workers_made);  // so that it can be given back
        return new Worker();
    }
    Worker* worker = idle.back();
    idle.pop_back();
    return worker;
}

void return_worker(Worker* worker) {
    std::lock_guard<std::mutex> lock(workers_mutex);
    idle_workers().push_back(worker);
}

// --- signals ---------------------------------------------------------------------------------------------

// A fault in a kernel ends the launch with a report. A fault anywhere else is not ours.
bool handle_fault(int signal, siginfo_t* info, void* context) {
    if (!worker || !worker->runs_kernel()) return false;
#ifdef GPUNN_EMULATOR_CHECK
    if (signal == SIGFPE && handle_float_exception(*info, context)) return true;
#endif
    Interruption place = interruption_of(context);
    const char* pc = (const char*)place.instruction;
    Report report = worker->describe(signal == SIGFPE ? Kind::division : Kind::fault, pc ? pc + 1 : nullptr);
    const char* format = "invalid access at address %p";
    if (signal == SIGFPE) format = "integer division by zero, or its result does not fit";
    else if (overflows(worker->fiber()->stack, info->si_addr) ||
             overflows(worker->fiber()->stack, place.stack_pointer))
        format = "the stack is full: a thread may have 512 KiB of local memory";
    std::snprintf(report.message, sizeof report.message, format, info->si_addr);
    worker->fail(report);
}

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

// Sends `interrupting` to this thread again and again, from start() to stop().
class Ticking {
public:
    ~Ticking() {
        if (made_) timer_delete(timer_);
    }
    void start() {
        if (!made_) make();
        runs_ = true;
        set(often_ ? often : seldom, often_ ? often : seldom);
    }
    void stop() {
        set(0, 0);
        runs_ = false;
    }
    void be_seldom() { often_ = false; }
    void after(long nanoseconds) {
        often_ = true;
        if (runs_) set(nanoseconds, often);
    }
    void forget() { made_ = false; }  // a child of this process has no timers

private:
    void make() {
        sigevent event{};
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = interrupting;
        event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
        made_ = timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
    }
    void set(long first, long then) {
        itimerspec times{};
        times.it_value.tv_nsec = first;
        times.it_interval.tv_nsec = then;
        if (made_) timer_settime(timer_, 0, &times, nullptr);
    }

    static const long seldom = 20 * 1000 * 1000, often = 250 * 1000;  // ns

    timer_t timer_;
    bool made_ = false, runs_ = false, often_ = false;
};

thread_local Ticking ticking;

class Ticks {
public:
    Ticks() { ticking.start(); }
    ~Ticks() { ticking.stop(); }
};

// --- a launch on its host threads ------------------------------------------------------------------------

#ifdef GPUNN_EMULATOR_WATCH

std::timed_mutex watch_mutex;  // what is known of memory is known for one launch
bool watch_runs = false;

#else

unsigned core_count() {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (unsigned)CPU_COUNT(&set);
    return std::thread::hardware_concurrency();
}

#endif

// The calling thread, in fast mode joined by one more per core once the launch proves to be long enough to pay for
// them. They are started anew for every launch: a pool that waits would not survive a fork.
//
// Python only marks a signal when it comes, and calls the handler later, in Python: a launch that lasts returns to it
// now and then.
class Run {
public:
    // This host thread's signals have been given to `target` already.
    explicit Run(const Request& request) : launch(request), start_(Clock::now()) {
#ifdef GPUNN_EMULATOR_WATCH
        watch_lock_ = std::unique_lock<std::timed_mutex>(watch_mutex, std::defer_lock);
#endif
        gpunn_signals_hold();
    }
    ~Run() { close(); }
    Run(const Run&) = delete;

    // Returns false before the end now and then: the next call continues where this one stopped.
    bool go_on() {
        HostFloats floats;
        Ticks ticks;
        do {
            went_on_ = Clock::now();
            interrupted_ = 0;
            if (work()) return true;
        } while (!launch.request.handles_signals);
        return false;
    }

    // Ends it, wherever it is: only the reports are left.
    void close() {
        if (closed_) return;
        closed_ = true;
        launch.stop();
        if (worker_ && !clusters_.empty() && clusters_[0].is_turn_of(0)) clusters_[0].leave(0);
        while (!wait_for_helpers()) {}
        for (std::thread& helper : helpers_) helper.join();
        give_worker_back();
        gpunn_signals_clear_target();
        gpunn_signals_release();
#ifdef GPUNN_EMULATOR_WATCH
        if (!watch_lock_.owns_lock()) return;
        watcher.end_launch();
        watch_runs = false;
        watch_lock_.unlock();
#endif
    }
    bool is_closed() const { return closed_; }

    Launch launch;

    static const SignalTarget target;

private:
    typedef std::chrono::steady_clock Clock;
    static constexpr std::chrono::milliseconds pause{5};

    // A signal handler, which a kernel may be left in, has rounding modes of its own.
    class HostFloats {
    public:
        HostFloats() { std::fegetenv(&saved_); }
        ~HostFloats() { std::fesetenv(&saved_); }

    private:
        std::fenv_t saved_;
    };

    bool work() {
#ifdef GPUNN_EMULATOR_WATCH
        while (!watch_lock_.owns_lock() && !watch_lock_.try_lock_for(pause))
            if (interrupted_) return false;
#endif
        if (!begun_) begin();
        else if (worker_) call_helpers_if_long();  // the first block may wait for another
        if (worker_ && !worker_->work([this] { call_helpers_if_long(); })) return false;
#ifdef GPUNN_EMULATOR_WATCH
        if (worker_) watcher.settle();
#endif
        give_worker_back();
        while (!wait_for_helpers())
            if (interrupted_) return false;
        return true;
    }

    void begin() {
        begun_ = true;
        ticking.be_seldom();
#ifdef GPUNN_EMULATOR_WATCH
        watch_runs = true;
        watcher.begin_launch(launch);
#endif
        worker_ = borrow_worker();
        if (launch.cluster_size > 1) return begin_cluster(true);
        if (!worker_->begin(launch, 1)) throw std::bad_alloc();
        if (launch.request.cooperative) call_helpers_if_long();
    }

    void give_worker_back() {
        if (!worker_) return;
        worker_->end();
        return_worker(worker_);
        worker_ = nullptr;
    }

    // In a signal handler of one of its host threads.
    static void tick(void* context);

    // Host threads for the blocks of a cluster: this one for the first if `is_first`, and helpers.
    void begin_cluster(bool is_first) {
        clusters_.emplace_back(launch);
        Cluster& cluster = clusters_.back();
        SignalsElsewhere signals;
        bool room = true;
        try {
            std::lock_guard<std::mutex> lock(helpers_mutex_);
            for (unsigned rank = is_first; rank < launch.cluster_size; rank++) {
                helpers_.emplace_back([this, &cluster, rank] { help(1, &cluster, rank); });
                busy_helpers_++;
            }
        } catch (const std::exception&) {
            room = false;
        }
        if (room && (!is_first || worker_->begin(launch, 1, &cluster, 0))) return;
        cluster.give_up();
        if (!is_first) return;
        return_worker(worker_);
        worker_ = nullptr;
        throw std::bad_alloc();
    }

#ifdef GPUNN_EMULATOR_WATCH
    void call_helpers_if_long() {}
#else
    void call_helpers_if_long() {
        if (called_ || launch.block_count <= launch.cluster_size) return;
        // All blocks of a cooperative launch are begun before the first one ends.
        if (!launch.request.cooperative && Clock::now() - start_ < std::chrono::microseconds(30)) return;
        called_ = true;
        unsigned wanted = core_count() - 1;
        if (launch.cluster_size > 1) {
            const unsigned* block = launch.request.block;
            std::size_t threads = (std::size_t)launch.cluster_size * block[0] * block[1] * block[2];
            std::size_t most = std::min<std::size_t>(wanted + 1, most_stacks() / threads);
            while (clusters_.size() < most && launch.blocks_to_come()) begin_cluster(false);
            return;
        }
        SignalsElsewhere signals;
        if (wanted > launch.block_count - 1) wanted = (unsigned)launch.block_count - 1;
        try {
            std::lock_guard<std::mutex> lock(helpers_mutex_);
            helpers_.reserve(wanted);
            std::size_t stacks = worker_->stacks_needed();
            while (helpers_.size() < wanted) {
                helpers_.emplace_back([this, stacks] { help(stacks, nullptr, 0); });
                busy_helpers_++;
            }
        } catch (const std::system_error&) {
            // No more threads to be had: those that are there do the work.
        } catch (const std::bad_alloc&) {
        }
        std::uint64_t workers = helpers_.size() + 1;
        if (launch.request.cooperative) launch.set_share((launch.block_count + workers - 1) / workers);
    }

    bool called_ = false;
#endif

    // Signals meant for the process are Python's to handle, in its own thread; helpers that are started meanwhile have
    // those of kernels alone.
    class SignalsElsewhere {
    public:
        SignalsElsewhere() {
            sigset_t all;
            sigfillset(&all);
            for (int signal : {SIGSEGV, SIGBUS, SIGFPE, interrupting}) sigdelset(&all, signal);
            pthread_sigmask(SIG_SETMASK, &all, &before_);
        }
        ~SignalsElsewhere() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

    private:
        sigset_t before_;
    };

    // What a helper does. One that cannot be had takes no block: the others do the work.
    void help(std::size_t stacks, Cluster* cluster, unsigned rank) {
        gpunn_signals_set_target(&target);
        Ticks ticks;
        Worker* mine = nullptr;
        bool has_begun = false;
        try {
            mine = borrow_worker();
        } catch (const std::bad_alloc&) {
        }
        if (mine) {
            has_begun = mine->begin(launch, stacks, cluster, rank);
            if (has_begun) {
                mine->work([] {});
                mine->end();
            }
            return_worker(mine);
        }
        if (!has_begun && cluster) do_without(*cluster);
        else if (!has_begun) launch.set_share(launch.block_count);
        std::lock_guard<std::mutex> lock(helpers_mutex_);
        busy_helpers_--;
        helper_ends_.notify_one();
    }

    // One of its host threads cannot be had. The first cluster is the one that must be.
    void do_without(Cluster& cluster) {
        cluster.give_up();
        if (&cluster != &clusters_.front()) return;
        Report report{};
        report.kind = (int)Kind::resources;
        report.argument = -1;
        report.byte = -1;
        std::snprintf(report.message, sizeof report.message, "there is no memory for the blocks of a cluster");
        launch.add(report);
    }

    // Returns true when all have ended, false after a moment.
    bool wait_for_helpers() {
        std::unique_lock<std::mutex> lock(helpers_mutex_);
        return helper_ends_.wait_for(lock, pause, [this] { return busy_helpers_ == 0; });
    }

    std::deque<Cluster> clusters_;
    std::mutex helpers_mutex_;
    std::condition_variable helper_ends_;
    std::vector<std::thread> helpers_;
    unsigned busy_helpers_ = 0;

    Clock::time_point start_, went_on_;
    Worker* worker_ = nullptr;
    bool begun_ = false, closed_ = false;
    volatile sig_atomic_t interrupted_ = 0;
#ifdef GPUNN_EMULATOR_WATCH
    std::unique_lock<std::timed_mutex> watch_lock_;
#endif
};

// The launch that this host thread is in, if there is one.
__thread Run* running __attribute__((tls_model("initial-exec")));

const SignalTarget Run::target{handle_fault, tick, SI_TIMER};

void Run::tick(void* context) {
    bool leaves = running && Clock::now() - running->went_on_ >= std::chrono::milliseconds(15);
    if (leaves) running->interrupted_ = 1;
    if (worker) worker->tick(context, leaves);
}

// A fork copies the locks as they are; holding them meanwhile means that the child finds them free. A launch may
// last, so its lock is made anew in the child, with what it guards: the thread that held it does not exist there.
void hold_locks() { workers_mutex.lock(); }
void free_locks() { workers_mutex.unlock(); }
void free_locks_in_child() {
    free_locks();
    running = nullptr;
    worker = nullptr;
    ticking.forget();
#ifdef GPUNN_EMULATOR_WATCH
    new (&watch_mutex) std::timed_mutex;
    if (watch_runs) new (&watcher) Watcher();
    watch_runs = false;
#endif
}
const int fork_handlers = pthread_atfork(hold_locks, free_locks, free_locks_in_child);

// Returns the number of reports, or an Outcome; `run` is null afterwards if there is nothing more to ask it.
int go_on(Run*& run) {
    int outcome = (int)Outcome::no_memory;
    try {
        if (!run->go_on()) return (int)Outcome::suspended;
        outcome = (int)run->launch.reports.size();
    } catch (const std::bad_alloc&) {
    }
    run->close();
    running = nullptr;
    if (outcome <= 0) {
        delete run;
        run = nullptr;
    }
    std::fflush(stdout);  // a kernel's printf goes through C's buffer, Python's does not
    return outcome;
}

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

void tick_after(long nanoseconds) { ticking.after(nanoseconds); }

unsigned long long nanoseconds_now() {
    worker->leave_if_asked();
    worker->look_at_time();  // who does that waits for it
    return (unsigned long long)std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace gpunn_emulator

using namespace gpunn_emulator;

#define GPUNN_API extern "C" __attribute__((visibility("default")))

// Describes the library that holds `address`; returns 0 when there is none.
GPUNN_API int gpunn_emulator_find_library(const char* address, Library* library) {
    LibrarySearch search{address, library};
    return dl_iterate_phdr(look_at_object, &search);
}

// Runs a kernel and returns the number of its reports, or an Outcome. `run` must be null; what is put there has to be
// given to gpunn_emulator_end.
GPUNN_API int gpunn_emulator_launch(const Request* request, Run** run) {
    if (!gpunn_signals_set_target(&Run::target)) return (int)Outcome::nested;
    try {
        *run = running = new Run(*request);
    } catch (const std::bad_alloc&) {
        gpunn_signals_clear_target();
        return (int)Outcome::no_memory;
    }
    return go_on(*run);
}

// Continues a launch that was suspended, and returns as gpunn_emulator_launch does.
GPUNN_API int gpunn_emulator_resume(Run** run) { return *run == running ? go_on(*run) : (int)Outcome::forgotten; }

GPUNN_API void gpunn_emulator_report(const Run* run, int i, Report* report) {
    *report = run->launch.reports[(std::size_t)i];
}

// Ends a launch, also before its end, and forgets its reports. One that was suspended in the parent of this process is
// left alone: its threads are not here.
GPUNN_API void gpunn_emulator_end(Run* run) {
    if (!run || !(run->is_closed() || run == running)) return;
    if (run == running) running = nullptr;
    delete run;
}
