#include "signals.h"

#include <pthread.h>

#include <cerrno>
#include <mutex>

using gpunn_emulator::interrupting;
using gpunn_emulator::SignalTarget;

namespace {

const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, interrupting};
const int signal_count = sizeof signals / sizeof signals[0];

// What was there when our handler came, and, where somebody put his own on top of ours, what was there before that:
// his may call ours back, or put it back in his place.
struct sigaction previous[signal_count], below[signal_count], on_top[signal_count];
__thread bool in_previous __attribute__((tls_model("initial-exec")));
int holders = 0;
std::mutex mutex;

// Initial-exec: the first use of other thread-local storage allocates it, which a signal handler must not.
__thread const SignalTarget* target __attribute__((tls_model("initial-exec")));

void call(const struct sigaction& action, int i, siginfo_t* info, void* context) {
    if (action.sa_flags & SA_SIGINFO) action.sa_sigaction(signals[i], info, context);
    else if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) action.sa_handler(signals[i]);
    else if (signals[i] != interrupting) {  // the end of the process
        sigaction(signals[i], &action, nullptr);
        if (info->si_code <= 0) raise(signals[i]);  // was sent; otherwise the instruction runs, and faults, again
    }
}

// True if ours is in place where his was who had come on top of it.
bool has_put_ours_back(int i) { return previous[i].sa_sigaction == on_top[i].sa_sigaction; }

void call_previous(int i, siginfo_t* info, void* context) {
    if (in_previous || (holders == 0 && has_put_ours_back(i))) return call(below[i], i, info, context);
    in_previous = true;
    call(previous[i], i, info, context);
    in_previous = false;
}

void handle(int signal, siginfo_t* info, void* context) {
    int i = 0, error = errno;
    while (signals[i] != signal) i++;
    if (signal == interrupting && target && info->si_code == target->interrupt_code) target->interrupt(context);
    else {
        // A fault that somebody has sent is not the kernel's.
        bool may_be_kernels = signal != interrupting && target && info->si_code > 0;
        if (!may_be_kernels || !target->fault(signal, info, context)) call_previous(i, info, context);
    }
    errno = error;
}

bool is_ours(const struct sigaction& action) {
    return (action.sa_flags & SA_SIGINFO) && action.sa_sigaction == handle;
}

void install(int i) {
    struct sigaction action {}, now;
    sigaction(signals[i], nullptr, &now);
    if (is_ours(now)) {  // somebody has put back what he had found: what was before that still holds
        if (has_put_ours_back(i)) previous[i] = below[i];
    } else {
        if (now.sa_sigaction != previous[i].sa_sigaction) below[i] = previous[i];
        previous[i] = now;
    }
    action.sa_sigaction = handle;
    // A fault's handler has a stack of its own, because the fiber's may be what overflowed. Not deferred, because
    // both kinds may be left by a jump.
    action.sa_flags = SA_SIGINFO | SA_NODEFER | (signals[i] == interrupting ? SA_RESTART : SA_ONSTACK);
    sigaction(signals[i], &action, nullptr);
}

void put_back(int i) {
    struct sigaction now;
    sigaction(signals[i], &previous[i], &now);
    if (is_ours(now)) return;
    on_top[i] = now;  // somebody's who came meanwhile
    sigaction(signals[i], &now, nullptr);
}

// A fork copies the lock as it is; holding it meanwhile means that the child finds it free. The threads whose
// launches held the handlers do not exist in the child.
void before_fork() { mutex.lock(); }
void after_fork() { mutex.unlock(); }
void after_fork_in_child() {
    for (int i = 0; holders && i < signal_count; i++) put_back(i);
    holders = 0;
    target = nullptr;
    mutex.unlock();
}
const int fork_handlers = pthread_atfork(before_fork, after_fork, after_fork_in_child);

}  // namespace

#define GPUNN_API __attribute__((visibility("default")))

GPUNN_API void gpunn_signals_hold() {
    std::lock_guard<std::mutex> lock(mutex);
    if (holders++ == 0)
        for (int i = 0; i < signal_count; i++) install(i);
}

GPUNN_API void gpunn_signals_release() {
    std::lock_guard<std::mutex> lock(mutex);
    if (--holders == 0)
        for (int i = 0; i < signal_count; i++) put_back(i);
}

GPUNN_API bool gpunn_signals_set_target(const SignalTarget* chosen) {
    if (target) return false;
    target = chosen;
    return true;
}

GPUNN_API void gpunn_signals_clear_target() { target = nullptr; }
