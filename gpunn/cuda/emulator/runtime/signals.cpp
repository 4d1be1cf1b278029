#include "signals.h"

#include <pthread.h>

#include <cerrno>
#include <mutex>

using gpunn_emulator::interrupting;
using gpunn_emulator::SignalTarget;

namespace {

const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, interrupting};
const int signal_count = sizeof signals / sizeof signals[0];

struct sigaction previous[signal_count];
int holders = 0;
std::mutex mutex;

// Initial-exec: the first use of other thread-local storage allocates it, which a signal handler must not.
__thread const SignalTarget* target __attribute__((tls_model("initial-exec")));

void call_previous(int i, siginfo_t* info, void* context) {
    const struct sigaction& action = previous[i];
    if (action.sa_flags & SA_SIGINFO) action.sa_sigaction(signals[i], info, context);
    else if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) action.sa_handler(signals[i]);
    else if (signals[i] != interrupting) {  // the end of the process
        sigaction(signals[i], &action, nullptr);
        if (info->si_code <= 0) raise(signals[i]);  // was sent; otherwise the instruction runs, and faults, again
    }
}

void handle(int signal, siginfo_t* info, void* context) {
    int i = 0, error = errno;
    while (signals[i] != signal) i++;
    if (signal == interrupting && (info->si_code == SI_TKILL || info->si_code == SI_TIMER)) {
        if (target) target->interrupt(context);
    } else {
        if (target && signal != interrupting) target->fault(signal, info, context);
        call_previous(i, info, context);
    }
    errno = error;
}

bool is_ours(const struct sigaction& action) {
    return (action.sa_flags & SA_SIGINFO) && action.sa_sigaction == handle;
}

void install(int i) {
    struct sigaction action {}, now;
    action.sa_sigaction = handle;
    // A fault's handler has a stack of its own, because the fiber's may be what overflowed. Not deferred, because
    // both kinds may be left by a jump.
    action.sa_flags = SA_SIGINFO | SA_NODEFER | (signals[i] == interrupting ? SA_RESTART : SA_ONSTACK);
    sigaction(signals[i], &action, &now);
    // Where somebody has put back a handler of ours that he had found, what was before that still holds.
    if (!is_ours(now)) previous[i] = now;
}

void put_back(int i) {
    struct sigaction now;
    sigaction(signals[i], &previous[i], &now);
    if (!is_ours(now)) sigaction(signals[i], &now, nullptr);  // somebody's who came meanwhile
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

GPUNN_API void gpunn_signals_set_target(const SignalTarget* chosen) { target = chosen; }
