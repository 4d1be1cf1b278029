// Streams, events, captures and graphs, by the rules of the CUDA programming guide.
#include <Python.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <new>
#include <thread>

#include "device.h"

namespace gpunn_device {

Settings settings;

// ---- one call at a time -----------------------------------------------------------------------------------------

namespace {

std::recursive_mutex mutex;

// A child has the parent's memory but no device: whoever used it before the fork is told so at every call, as by CUDA.
std::atomic<bool> used{false};

void after_fork_in_child() {
    new (&mutex) std::recursive_mutex;  // the one that was held is of a thread of the parent's
    if (used) break_device(initialization_error);
}
const int fork_handler = pthread_atfork(nullptr, nullptr, after_fork_in_child);

}  // namespace

Lock::Lock() : state_(nullptr) {
    if (Py_IsInitialized() && PyGILState_Check()) state_ = PyEval_SaveThread();
    mutex.lock();
    note_use();
    set_context(true);
}

void note_use() { used = true; }

// Python that ends ends the threads that ask for its lock. What lies between must not be unwound: such a thread waits
// here for the end of the process.
Lock::~Lock() {
    mutex.unlock();
    try {
        if (state_) PyEval_RestoreThread(state_);
    } catch (...) {
        for (;;) pause();
    }
}

// ---- what is there ----------------------------------------------------------------------------------------------

namespace {

const std::intptr_t legacy_handle = 1, per_thread_handle = 2;
const unsigned disable_timing = 2;
const int relaxed = 2;
enum Status { none, active, invalidated };

std::set<Stream*> streams;
std::set<Stream*> retired;  // destroyed while they had work, which is done all the same
Knowledge destroyed;  // what the work of streams that are gone had done: whoever waits for a device waits for it too
std::set<Event*> events;
std::set<Stream*> capturing;
std::set<std::shared_ptr<Graph>*> graphs, executables;
std::map<int, Stream> legacy_streams;
int broken_with = success;
thread_local bool in_host_function = false;

std::size_t this_thread() { return std::hash<std::thread::id>()(std::this_thread::get_id()); }

Stream& legacy_stream() {
    Stream& stream = legacy_streams[current_device()];
    stream.device = current_device();
    stream.legacy = true;
    return stream;
}

// A stream of each thread and device, for as long as the process lives.
Stream& thread_stream() {
    thread_local std::map<int, Stream*> own;
    Stream*& stream = own[current_device()];
    if (!stream) {
        stream = new Stream;
        stream->device = current_device();
        streams.insert(stream);
    }
    return *stream;
}

template <class Set, class T> T* known(const Set& set, T* pointer) {
    return set.count(pointer) ? pointer : nullptr;
}

std::shared_ptr<Graph>* graph_of(std::intptr_t handle) { return known(graphs, (std::shared_ptr<Graph>*)handle); }

std::shared_ptr<Graph>* executable_of(std::intptr_t handle) {
    return known(executables, (std::shared_ptr<Graph>*)handle);
}

// Streams that wait for the legacy stream of their device, as it does for them.
template <class F> void each_blocking(int device, F f) {
    for (const auto* some : {&streams, &retired})
        for (Stream* stream : *some)
            if (stream->device == device && !stream->non_blocking()) f(*stream);
}

// A stream that captures, and that this one, if it is the legacy stream, would wait for; null if there is none.
Stream* capturing_beside(const Stream& stream) {
    if (stream.legacy)
        for (Stream* other : capturing)
            if (!other->non_blocking() && other->device == stream.device) return other;
    return nullptr;
}

int invalidate(Stream& stream, int error) {
    stream.graph->valid = false;
    return error;
}

}  // namespace

void each_awaited(const Stream& stream, const std::function<void(Stream&)>& f) {
    if (stream.legacy) each_blocking(stream.device, f);
    else if (!stream.non_blocking()) f(legacy_streams[stream.device]);
}

Stream* stream_of(std::intptr_t handle) {
    if (!handle || handle == legacy_handle) return &legacy_stream();
    return handle == per_thread_handle ? &thread_stream() : known(streams, (Stream*)handle);
}

Event* event_of(std::intptr_t handle) { return known(events, (Event*)handle); }

int broken() {
    if (in_host_function) return not_permitted;
    return broken_with ? broken_with : untold();
}

bool is_broken() { return broken_with; }

void break_device(int error) { broken_with = error; }

// ---- running --------------------------------------------------------------------------------------------------------

namespace {

int outcome(const Work& work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return out_of_memory;
    }
}

int run_one(Stream& stream) {
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    int error = broken_with ? broken_with : outcome(work);
    stream.done++;
    return error;
}

void push(Stream& stream, Work work) {
    stream.queue.push_back(std::move(work));
    stream.enqueued++;
}

// Has the stream wait for what another one was given so far.
void push_wait(Stream& stream, Stream& other) {
    if (other.done == other.enqueued) return;
    Stream* awaited = &other;
    std::int64_t position = other.enqueued;
    push(stream, [=] { return run_until(*awaited, position); });
}

}  // namespace

int run_until(Stream& stream, std::int64_t position) {
    int first = success;
    while (stream.done < position && !stream.queue.empty())
        if (int error = run_one(stream); error && !first) first = error;
    return first;
}

namespace {

// What the streams of a device were given so far; of every device if it is -1.
int run_device(int device) {
    int first = success;
    learn(host_knowledge, destroyed);
    auto run = [&](Stream& stream) {
        if (device >= 0 && stream.device != device) return;
        if (int error = run_until(stream, stream.enqueued); error && !first) first = error;
        learn(host_knowledge, stream.knows);
    };
    for (auto& [_, stream] : legacy_streams) run(stream);
    for (Stream* stream : std::vector<Stream*>(streams.begin(), streams.end())) run(*stream);
    for (Stream* stream : std::vector<Stream*>(retired.begin(), retired.end())) {
        run(*stream);
        if (stream->done == stream->enqueued) retired.erase(stream);
    }
    return first;
}

}  // namespace

int run_all() { return run_device(-1); }

int call_host(const std::function<void()>& function) {
    in_host_function = true;
    function();
    in_host_function = false;
    return success;
}

int enqueue(std::intptr_t handle, const char* label, Work work) {
    if (in_host_function) return not_permitted;
    Stream* stream = stream_of(handle);
    if (!stream) return invalid_handle;
    if (stream->graph) {
        Graph& graph = *stream->graph;
        if (!graph.valid) return capture_invalidated;
        graph.nodes.push_back(Node{label, std::move(work), stream->last});
        stream->last = {(int)graph.nodes.size() - 1};
        return success;
    }
    if (broken_with) return broken_with;
    if (Stream* other = capturing_beside(*stream)) return invalidate(*other, capture_implicit);
    if (settings.check) work = ordered(*stream, label, std::move(work));
    if (!settings.late) return outcome(work);
    each_awaited(*stream, [&](Stream& other) { push_wait(*stream, other); });
    push(*stream, std::move(work));
    return success;
}

void order_between_devices(Stream& stream, int other, bool before) {
    auto order = [&](Stream& first, Stream& second) {
        if (&first == &second) return;
        push_wait(second, first);
        learn(second.knows, first.knows);
    };
    for (int device : {stream.device, other}) {
        auto one = [&](Stream& each) { before ? order(each, stream) : order(stream, each); };
        if (legacy_streams.count(device)) one(legacy_streams[device]);
        each_blocking(device, one);
    }
}

int not_in_capture(std::intptr_t handle, int error) {
    Stream* stream = stream_of(handle);
    if (!stream) return invalid_handle;
    if (stream->graph) return invalidate(*stream, error);
    Stream* other = capturing_beside(*stream);
    return other ? invalidate(*other, capture_implicit) : success;
}

int unsafe_in_capture() {
    for (Stream* stream : capturing) {
        int mode = stream->graph->mode;
        if (mode == relaxed || (mode && stream->graph->thread != this_thread())) continue;
        return invalidate(*stream, capture_unsupported);
    }
    return success;
}

// ---- streams --------------------------------------------------------------------------------------------------------

int stream_create(std::intptr_t* out, unsigned flags, int priority) {
    if (flags & ~1u) return invalid_value;
    Stream* stream = new Stream;
    stream->device = current_device();
    stream->flags = flags;
    stream->priority = std::max(-5, std::min(0, priority));
    streams.insert(stream);
    *out = (std::intptr_t)stream;
    return success;
}

int stream_destroy(std::intptr_t handle) {
    Stream* stream = known(streams, (Stream*)handle);
    if (!stream) return invalid_handle;
    if (stream->graph) {
        stream->graph->valid = false;
        capturing.erase(stream);
    }
    // Its work goes on: nobody waits for it here. The object stays, for events name it.
    streams.erase(stream);
    if (stream->done < stream->enqueued) retired.insert(stream);
    learn(destroyed, stream->knows);
    return success;
}

int stream_synchronize(std::intptr_t handle) {
    if (int error = not_in_capture(handle, capture_unsupported)) return error;
    Stream* stream = stream_of(handle);
    int error = success;
    auto run = [&](Stream& awaited) {
        if (int wrong = run_until(awaited, awaited.enqueued)) error = wrong;
        learn(host_knowledge, awaited.knows);
    };
    if (stream->legacy) each_blocking(stream->device, run);
    run(*stream);
    return broken_with ? broken_with : error;
}

int stream_query(std::intptr_t handle) {
    Stream* stream = stream_of(handle);
    if (!stream) return invalid_handle;
    if (int error = not_in_capture(handle, capture_unsupported)) return error;
    Stream* busy = nullptr;
    auto look = [&](Stream& awaited) {
        if (awaited.done < awaited.enqueued) busy = &awaited;
    };
    if (stream->legacy) each_blocking(stream->device, look);
    look(*stream);
    if (busy) {
        if (int error = run_one(*busy)) return error;  // who asks again and again has it done in the end
        return not_ready;
    }
    if (stream->legacy) each_blocking(stream->device, [](Stream& other) { learn(host_knowledge, other.knows); });
    learn(host_knowledge, stream->knows);
    return broken_with;
}

int device_synchronize() {
    if (in_host_function) return not_permitted;
    for (Stream* stream : capturing)
        if (stream->device == current_device()) return invalidate(*stream, capture_unsupported);
    int error = run_device(current_device());
    return broken_with ? broken_with : error;
}

int stream_wait(std::intptr_t handle, std::intptr_t event_handle) {
    Stream* stream = stream_of(handle);
    Event* event = event_of(event_handle);
    if (!stream || !event) return invalid_handle;
    if (event->graph) {
        if (stream->legacy) return event->graph->valid = false, capture_implicit;
        if (stream->graph && stream->graph != event->graph) return event->graph->valid = false, capture_merge;
        if (!stream->graph) {
            stream->graph = event->graph;
            stream->last.clear();
            capturing.insert(stream);
        }
        for (int node : event->last)
            if (std::find(stream->last.begin(), stream->last.end(), node) == stream->last.end())
                stream->last.push_back(node);
        return success;
    }
    if (stream->graph) return event->mark ? invalidate(*stream, capture_isolation) : success;
    if (Stream* other = capturing_beside(*stream)) return invalidate(*other, capture_implicit);
    if (event->mark) learn(stream->knows, event->mark->knows);
    if (!event->mark || !event->mark->stream) return broken_with;
    Stream* awaited = event->mark->stream;
    std::int64_t position = event->mark->position;
    if (awaited->done < position) push(*stream, [=] { return run_until(*awaited, position); });
    return broken_with;
}

// ---- events ---------------------------------------------------------------------------------------------------------

int event_create(std::intptr_t* out, unsigned flags) {
    if (flags & ~7u) return invalid_value;
    Event* event = new Event;
    event->device = current_device();
    event->flags = flags;
    events.insert(event);
    *out = (std::intptr_t)event;
    return success;
}

int event_destroy(std::intptr_t handle) {
    Event* event = event_of(handle);
    if (!event) return invalid_handle;
    events.erase(event);
    delete event;
    return success;
}

int event_record(std::intptr_t handle, std::intptr_t stream_handle) {
    Event* event = event_of(handle);
    Stream* stream = stream_of(stream_handle);
    if (!event || !stream || event->device != stream->device) return invalid_handle;
    event->graph = stream->graph;
    if (stream->graph) {
        if (!stream->graph->valid) return capture_invalidated;
        event->last = stream->last;
        return success;
    }
    auto mark = event->mark = std::make_shared<Mark>();
    int error = enqueue(stream_handle, "event", [=] {
        mark->time = std::chrono::steady_clock::now();
        return (int)success;
    });
    mark->knows = stream->knows;
    if (settings.late) {
        mark->stream = stream;
        mark->position = stream->enqueued;
    }
    return error;
}

namespace {

bool pending(const Event& event) {
    return event.mark && event.mark->stream && event.mark->stream->done < event.mark->position;
}

}  // namespace

int event_synchronize(std::intptr_t handle) {
    Event* event = event_of(handle);
    if (!event) return invalid_handle;
    if (event->graph) return event->graph->valid = false, captured_event;
    int error = pending(*event) ? run_until(*event->mark->stream, event->mark->position) : success;
    if (event->mark) learn(host_knowledge, event->mark->knows);
    return broken_with ? broken_with : error;
}

int event_query(std::intptr_t handle) {
    Event* event = event_of(handle);
    if (!event) return invalid_handle;
    if (event->graph) return event->graph->valid = false, captured_event;
    if (!pending(*event)) return event->mark ? learn(host_knowledge, event->mark->knows) : void(), broken_with;
    if (int error = run_one(*event->mark->stream)) return error;
    return not_ready;
}

int event_elapsed(float* milliseconds, std::intptr_t start_handle, std::intptr_t end_handle) {
    Event *start = event_of(start_handle), *end = event_of(end_handle);
    if (!start || !end || !start->mark || !end->mark) return invalid_handle;
    if ((start->flags | end->flags) & disable_timing) return invalid_handle;
    if (start->device != end->device) return invalid_handle;
    if (pending(*start) || pending(*end)) return not_ready;
    *milliseconds = std::chrono::duration<float, std::milli>(end->mark->time - start->mark->time).count();
    return success;
}

// ---- captures and graphs --------------------------------------------------------------------------------------------

int capture_begin(std::intptr_t handle, int mode) {
    Stream* stream = stream_of(handle);
    if (!stream) return invalid_handle;
    if (mode < 0 || mode > relaxed) return invalid_value;
    if (stream->legacy) return capture_unsupported;
    if (stream->graph) return illegal_state;
    stream->graph = std::make_shared<Graph>();
    stream->graph->origin = stream;
    stream->graph->mode = mode;
    stream->graph->thread = this_thread();
    stream->last.clear();
    capturing.insert(stream);
    return success;
}

namespace {

// Whether each stream of the capture has been joined: whether its last nodes come before those of the first stream.
bool all_joined(const Graph& graph) {
    std::vector<bool> before(graph.nodes.size(), false);
    std::vector<int> rest = graph.origin->last;
    while (!rest.empty()) {
        int node = rest.back();
        rest.pop_back();
        if (before[(std::size_t)node]) continue;
        before[(std::size_t)node] = true;
        for (int earlier : graph.nodes[(std::size_t)node].after) rest.push_back(earlier);
    }
    for (Stream* stream : capturing)
        if (stream->graph.get() == &graph)
            for (int node : stream->last)
                if (!before[(std::size_t)node]) return false;
    return true;
}

}  // namespace

int capture_end(std::intptr_t handle, std::intptr_t* out) {
    *out = 0;
    Stream* stream = stream_of(handle);
    if (!stream) return invalid_handle;
    if (!stream->graph) return illegal_state;
    auto graph = stream->graph;
    if (graph->origin != stream) return graph->valid = false, capture_unmatched;
    if (graph->mode != relaxed && graph->thread != this_thread()) return graph->valid = false, capture_wrong_thread;
    bool joined = all_joined(*graph);
    std::set<Stream*> others;
    for (Stream* each : capturing) {
        if (each->graph == graph) each->graph = nullptr;
        else others.insert(each);
    }
    capturing = others;
    for (Event* event : events)
        if (event->graph == graph) event->graph = nullptr;
    if (!graph->valid) return capture_invalidated;
    if (!joined) return capture_unjoined;
    auto* held = new std::shared_ptr<Graph>(graph);
    graphs.insert(held);
    *out = (std::intptr_t)held;
    return success;
}

int capture_status(std::intptr_t handle, int* status) {
    Stream* stream = stream_of(handle);
    if (!stream) return invalid_handle;
    if (capturing_beside(*stream)) return capture_implicit;
    *status = !stream->graph ? none : stream->graph->valid ? active : invalidated;
    return success;
}

int graph_instantiate(std::intptr_t handle, std::intptr_t* out) {
    auto* graph = graph_of(handle);
    if (!graph) return invalid_value;
    auto* held = new std::shared_ptr<Graph>(*graph);
    executables.insert(held);
    *out = (std::intptr_t)held;
    return success;
}

namespace {

// Late, a node runs when one that comes after it needs it: those of branches that nobody waits for run last.
int run_graph(const Graph& graph) {
    std::vector<bool> done(graph.nodes.size(), false);
    // Runs what a node comes after, and then the node. A chain may be longer than this thread's stack is deep.
    auto run = [&](int wanted) -> int {
        std::vector<int> waiting;
        if (!done[(std::size_t)wanted]) waiting.push_back(wanted);
        while (!waiting.empty()) {
            int node = waiting.back();
            const std::vector<int>& after = graph.nodes[(std::size_t)node].after;
            auto earlier = std::find_if(after.begin(), after.end(), [&](int i) { return !done[(std::size_t)i]; });
            if (earlier != after.end()) {
                waiting.push_back(*earlier);
                continue;
            }
            waiting.pop_back();
            done[(std::size_t)node] = true;
            if (int error = run_node(graph, node)) return error;
        }
        return success;
    };
    for (std::size_t i = 0; i < graph.nodes.size(); i++) {
        bool needed = !settings.late || i + 1 == graph.nodes.size() || graph.nodes[i + 1].after == std::vector{(int)i};
        if (needed)
            if (int error = run((int)i)) return error;
    }
    for (std::size_t i = 0; i < graph.nodes.size(); i++)
        if (int error = run((int)i)) return error;
    return success;
}

}  // namespace

int graph_launch(std::intptr_t handle, std::intptr_t stream) {
    auto* executable = executable_of(handle);
    if (!executable) return invalid_value;
    auto graph = *executable;
    return enqueue(stream, "graph", [=] { return run_graph(*graph); });
}

int graph_upload(std::intptr_t handle, std::intptr_t stream) {
    if (!executable_of(handle)) return invalid_value;
    return stream_of(stream) ? success : invalid_handle;
}

int graph_destroy(std::intptr_t handle) {
    auto* graph = graph_of(handle);
    if (!graph) return invalid_value;
    graphs.erase(graph);
    delete graph;
    return success;
}

int graph_executable_destroy(std::intptr_t handle) {
    auto* executable = executable_of(handle);
    if (!executable) return invalid_value;
    executables.erase(executable);
    delete executable;
    return success;
}

int graph_draw(std::intptr_t handle, const char* path, bool verbose) {
    auto* graph = graph_of(handle);
    if (!graph) return invalid_value;
    std::FILE* file = std::fopen(path, "w");
    if (!file) return file_not_found;
    std::fprintf(file, "digraph dot {\n");
    const auto& nodes = (*graph)->nodes;
    for (std::size_t i = 0; i < nodes.size(); i++) {
        std::string more = verbose ? "\\nwaits for " + std::to_string(nodes[i].after.size()) : "";
        std::fprintf(file, "\"%zu\" [label=\"%zu\\n%s%s\"];\n", i, i, nodes[i].label.c_str(), more.c_str());
        for (int earlier : nodes[i].after) std::fprintf(file, "\"%d\" -> \"%zu\";\n", earlier, i);
    }
    std::fprintf(file, "}\n");
    std::fclose(file);
    return success;
}

}  // namespace gpunn_device

// Python calls these around a fork, without its interpreter lock: nothing is half done in the child.
GPUNN_API void gpunn_device_before_fork() { gpunn_device::mutex.lock(); }
GPUNN_API void gpunn_device_after_fork() { gpunn_device::mutex.unlock(); }
