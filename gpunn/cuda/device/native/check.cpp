// Check mode: whether two streams that touch the same memory are ordered, and whether the host waits for its copies.
//
// Each stream counts its work, and knows how far every other one had come when it was made to wait: by an event, by the
// legacy stream's rule, or because the host waited before it gave the work. Work that touches what another stream's work
// touched, without knowing of it, has no order with it on a GPU, whatever the order here.
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <utility>

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
    const Graph* graph = nullptr;
    int node = -1;
};

Running running;

bool have_in_common(const Spans& a, const Spans& b, Span& common) {
    for (auto x = a.begin(), y = b.begin(); x != a.end() && y != b.end();) {
        common = {std::max(x->begin, y->begin), std::min(x->end, y->end)};
        if (common.begin < common.end) return true;
        if (x->end < y->end) ++x;
        else ++y;
    }
    return false;
}

Spans without(const Spans& all, const Spans& some) {
    Spans rest;
    auto first = some.begin();
    for (Span span : all) {
        while (first != some.end() && first->end <= span.begin) ++first;
        for (auto each = first; each != some.end() && each->begin < span.end; ++each) {
            if (span.begin < each->begin) rest.push_back({span.begin, each->begin});
            span.begin = each->end;
        }
        if (span.begin < span.end) rest.push_back(span);
    }
    return rest;
}

bool comes_before(const Graph& graph, int earlier, int later) {
    std::vector<bool> seen(graph.nodes.size(), false);
    std::vector<int> rest{later};
    while (!rest.empty()) {
        int node = rest.back();
        rest.pop_back();
        if (node == earlier) return true;
        if (seen[(std::size_t)node]) continue;
        seen[(std::size_t)node] = true;
        for (int each : graph.nodes[(std::size_t)node].after) rest.push_back(each);
    }
    return false;
}

// Whether it was done in the launch of a graph that runs now, in whose stream there is one work at one time.
bool in_this_launch(const Touch& earlier) {
    return running.graph && earlier.stream == running.stream && earlier.time == running.knows[running.stream];
}

bool is_known(const Touch& earlier) {
    if (in_this_launch(earlier)) return comes_before(*running.graph, earlier.node, running.node);
    return earlier.stream == running.stream || earlier.time <= running.knows[earlier.stream];
}

int tell_conflict(const Block& block, const Touch& earlier, const Span& common, bool write) {
    char text[400];
    std::snprintf(text, sizeof text,
                  "%s: order: it %s bytes %zu to %zu of an allocation of %zu, which %s has %s in another %s",
                  running.label.c_str(), write ? "writes" : "reads", common.begin, common.end, block.bytes,
                  earlier.what.c_str(), earlier.write ? "written" : "read",
                  in_this_launch(earlier) ? "branch of the graph"
                                          : "stream: no event and no synchronisation is between the two");
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

int run_node(const Graph& graph, int number) {
    const Node& node = graph.nodes[(std::size_t)number];
    if (!settings.check || running.graph) return node.work();  // a graph within a graph is one node
    Running outer = running;
    running.graph = &graph;
    running.node = number;
    running.label = node.label;
    int error = node.work();
    running = outer;
    return error;
}

int touch(Block& block, const Spans& spans, bool write) {
    if (!settings.check || !running.stream || spans.empty()) return success;
    int error = success;
    for (Touch& earlier : block.touches) {
        Span common;
        if ((write || earlier.write) && !is_known(earlier) && have_in_common(earlier.spans, spans, common))
            error = tell_conflict(block, earlier, common, write);
        // Who is in order with this is so with what he would have to be in order with before.
        bool same = earlier.stream == running.stream && (!in_this_launch(earlier) || earlier.node == running.node);
        if (write || (same && !earlier.write)) earlier.spans = without(earlier.spans, spans);
    }
    auto forgotten = [](const Touch& earlier) { return earlier.spans.empty(); };
    block.touches.erase(std::remove_if(block.touches.begin(), block.touches.end(), forgotten), block.touches.end());
    std::int64_t now = running.knows[running.stream];
    block.touches.push_back(Touch{running.stream, now, running.node, spans, write, running.label});
    return error;
}

int touch(const void* memory, Rows rows, bool write) {
    if (!settings.check) return success;
    Block* block = find_block(memory);
    if (!block) return success;
    std::size_t begin = (std::size_t)((const char*)memory - block->begin);
    if (rows.pitch <= rows.width) rows = {rows.extent()};
    Spans spans;
    for (std::size_t i = 0; i < rows.height && rows.width && begin < block->bytes; i++, begin += rows.pitch)
        spans.push_back({begin, std::min(begin + rows.width, block->bytes)});
    if (write && block->written)
        for (const Span& span : spans)
            for (std::size_t i = span.begin; i < span.end; i++)
                block->written.get()[i / 8] |= (unsigned char)(1u << i % 8);
    return touch(*block, spans, write);
}

// ---- the host and its pinned memory ---------------------------------------------------------------------------------

namespace {

// What a copy that is under way reads or writes; a signal handler looks at it.
struct Guarded {
    char* memory;
    Rows rows;
    bool is_target, under_way;

    // It holds whole pages: memory that the host may touch can be among them.
    char* first_page() const { return (char*)((std::uintptr_t)memory / page * page); }
    char* last_page() const { return (char*)(((std::uintptr_t)memory + rows.extent() - 1) / page * page); }
    bool holds(const char* address) const {
        if (address < memory || address >= memory + rows.extent()) return false;
        return !rows.pitch || (std::size_t)(address - memory) % rows.pitch < rows.width;
    }
};

const std::size_t most_guarded = 1 << 14;  // a program with more copies under way is watched in part
Guarded guarded[most_guarded];
std::size_t guarded_end = 0;  // of those that were ever in use
volatile sig_atomic_t touched_target, touched_source;
struct sigaction previous;

// Work of a stream may touch what the host must not: touch() sees whether that is in order. What the host touched is
// noted, and may go on.
void on_fault(int signal, siginfo_t* info, void* context) {
    char* address = (char*)info->si_addr;
    bool ours = false;
    for (const Guarded* each = guarded; each != guarded + guarded_end; each++) {
        if (!each->under_way || address < each->first_page() || address >= each->last_page() + page) continue;
        ours = true;
        if (!running.stream && each->holds(address)) (each->is_target ? touched_target : touched_source) = 1;
    }
    if (ours) {
        mprotect((char*)((std::uintptr_t)address / page * page), page, PROT_READ | PROT_WRITE);
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

bool can_be_guarded(const void* memory) {
    const Block* block = find_block(memory);
    return block && block->kind == Kind::host && !block->registered;
}

}  // namespace

void guard(const void* memory, Rows rows, bool is_target) {
    if (!can_be_guarded(memory)) return;
    watch_faults();
    Guarded* place = std::find_if(guarded, guarded + most_guarded, [](const Guarded& each) { return !each.under_way; });
    if (place == guarded + most_guarded) return;
    *place = {(char*)memory, rows, is_target, true};
    guarded_end = std::max(guarded_end, (std::size_t)(place - guarded) + 1);
    guard_others(memory, rows);
}

void unguard(const void* memory, Rows rows, bool is_target) {
    if (!can_be_guarded(memory)) return;
    Guarded* place = std::find_if(guarded, guarded + guarded_end, [&](const Guarded& each) {
        return each.under_way && each.memory == memory && each.rows.extent() == rows.extent() &&
               each.rows.width == rows.width && each.is_target == is_target;
    });
    if (place == guarded + guarded_end) return;
    place->under_way = false;
    mprotect(place->first_page(), (std::size_t)(place->last_page() - place->first_page()) + page, PROT_READ | PROT_WRITE);
}

void guard_others(const void* memory, Rows rows) {
    if (!can_be_guarded(memory)) return;
    const Guarded here{(char*)memory, rows, false, false};
    for (bool targets : {false, true})
        for (const Guarded* each = guarded; each != guarded + guarded_end; each++) {
            char* begin = std::max(here.first_page(), each->first_page());
            char* end = std::min(here.last_page(), each->last_page()) + page;
            if (each->under_way && each->is_target == targets && begin < end)
                mprotect(begin, (std::size_t)(end - begin), targets ? PROT_NONE : PROT_READ);
        }
}

// ---- what nobody was told of yet ------------------------------------------------------------------------------------

namespace {

int kept = success;
std::string kept_report;

}  // namespace

int told_later(int error) {
    if (!settings.check || !is_of_launch(error)) return error;
    if (!kept) {
        kept = error;
        kept_report = last_report();
    }
    return error == launch_failure ? success : error;
}

int untold() {
    if (kept) {
        set_report(kept_report);
        return std::exchange(kept, success);
    }
    if (!touched_target && !touched_source) return success;
    set_report(touched_target ? "host: it touched pinned memory while a copy from the device to it was under way"
                              : "host: it wrote pinned memory while a copy from it to the device was under way");
    touched_target = touched_source = 0;
    return launch_failure;
}

}  // namespace gpunn_device
