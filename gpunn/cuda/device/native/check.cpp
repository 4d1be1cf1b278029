// Check mode: whether two streams that touch the same memory are ordered, and whether the host waits for its copies.
//
// Each stream counts its work, and knows how far every other one had come when it was made to wait: by an event, by the
// legacy stream's rule, or because the host waited before it gave the work. Work that touches what another stream's work
// touched, without knowing of it, has no order with it on a GPU, whatever the order here.
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>

#include "device.h"

namespace gpunn_device {

Knowledge host_knowledge;

void learn(Knowledge& into, const Knowledge& from) {
    for (const auto& [stream, time] : from) into[stream] = std::max(into[stream], time);
}

// ---- streams --------------------------------------------------------------------------------------------------------

namespace {

// The work that runs now.
struct Running {
    const Stream* stream = nullptr;
    std::string label;
    Knowledge knows;
};

Running running;

bool overlap(const Touch& touch, std::size_t begin, std::size_t end) { return begin < touch.end && touch.begin < end; }

int tell_conflict(const Block& block, const Touch& earlier, std::size_t begin, std::size_t end, bool write) {
    char text[400];
    std::snprintf(text, sizeof text,
                  "%s: order: it %s bytes %zu to %zu of an allocation of %zu, which %s has %s in another stream: no event "
                  "and no synchronisation is between the two",
                  running.label.c_str(), write ? "writes" : "reads", std::max(begin, earlier.begin),
                  std::min(end, earlier.end), block.bytes, earlier.what.c_str(), earlier.write ? "written" : "read");
    set_report(text);
    return launch_failure;
}

}  // namespace

Work ordered(Stream& stream, const char* label, Work work) {
    learn(stream.knows, host_knowledge);
    each_awaited(stream, [&](Stream& other) { learn(stream.knows, other.knows); });
    stream.knows[&stream] = ++stream.time;
    Running now{&stream, label, stream.knows};
    return [=] {
        Running outer = running;  // work may be waited for by other work
        running = now;
        int error = work();
        running = outer;
        return error;
    };
}

int touch(Block& block, std::size_t begin, std::size_t end, bool write) {
    if (!settings.check || !running.stream || begin >= end) return success;
    const Touch* conflict = nullptr;
    for (const Touch& earlier : block.touches) {
        if (!overlap(earlier, begin, end) || !(write || earlier.write) || earlier.stream == running.stream) continue;
        auto known = running.knows.find(earlier.stream);
        if (known == running.knows.end() || known->second < earlier.time) conflict = &earlier;
    }
    int error = conflict ? tell_conflict(block, *conflict, begin, end, write) : success;
    std::int64_t now = running.knows[running.stream];
    auto forgotten = [&](const Touch& earlier) {
        bool covered = begin <= earlier.begin && earlier.end <= end;
        return covered && (write || (earlier.stream == running.stream && !earlier.write));
    };
    block.touches.erase(std::remove_if(block.touches.begin(), block.touches.end(), forgotten), block.touches.end());
    block.touches.push_back(Touch{running.stream, now, begin, end, write, running.label});
    return error;
}

int touch(const void* memory, std::size_t bytes, bool write) {
    if (!settings.check) return success;
    Block* block = find_block(memory);
    if (!block) return success;
    std::size_t begin = (std::size_t)((const char*)memory - block->begin), end = std::min(begin + bytes, block->bytes);
    if (write && block->written)
        for (std::size_t i = begin; i < end; i++) block->written.get()[i / 8] |= (unsigned char)(1u << i % 8);
    return touch(*block, begin, end, write);
}

// ---- the host and its pinned memory ---------------------------------------------------------------------------------

namespace {

// A few are under way at once; a signal handler reads them.
struct Guarded {
    char *begin, *map;
    std::size_t map_bytes;
    int copies;
    bool is_target;
};

const int most_guarded = 256;
Guarded guarded[most_guarded];
volatile sig_atomic_t touched_target, touched_source;
struct sigaction previous;

// The host touched memory of a copy that is under way. That is noted, and it may go on.
void on_fault(int signal, siginfo_t* info, void* context) {
    for (Guarded& each : guarded)
        if (each.copies && (char*)info->si_addr >= each.map && (char*)info->si_addr < each.map + each.map_bytes) {
            (each.is_target ? touched_target : touched_source) = 1;
            mprotect(each.map, each.map_bytes - page, PROT_READ | PROT_WRITE);
            return;
        }
    if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
    sigaction(SIGSEGV, &previous, nullptr);  // the instruction runs, and faults, again
}

void watch_faults() {
    static bool watching = false;
    if (watching) return;
    watching = true;
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &previous);
}

}  // namespace

void guard(Block* block, bool is_target) {
    if (!block || block->kind != Kind::host || block->registered) return;
    watch_faults();
    Guarded* place = nullptr;
    for (Guarded& each : guarded) {
        if (each.copies && each.begin == block->begin) {
            each.copies++;
            each.is_target |= is_target;
            place = &each;
            break;
        }
        if (!each.copies && !place) place = &each;
    }
    if (!place) return;
    if (!place->copies) *place = {block->begin, block->map, block->map_bytes, 1, is_target};
    mprotect(block->map, block->map_bytes - page, place->is_target ? PROT_NONE : PROT_READ);
}

void unguard(Block* block) {
    if (!block || block->kind != Kind::host || block->registered) return;
    for (Guarded& each : guarded)
        if (each.copies && each.begin == block->begin) {
            each.copies--;
            mprotect(each.map, each.map_bytes - page, PROT_READ | PROT_WRITE);
            return;
        }
}

int mistakes_of_host() {
    if (!touched_target && !touched_source) return success;
    set_report(touched_target ? "host: it touched pinned memory while a copy from the device to it was under way"
                              : "host: it wrote pinned memory while a copy from it to the device was under way");
    touched_target = touched_source = 0;
    return launch_failure;
}

}  // namespace gpunn_device
