// The module cupy_backends.cuda.api.runtime, on the emulated device.
//
// CuPy's wheel has the CUDA runtime linked into this one, so it cannot be served from outside. Other extensions of the
// wheel call its functions through the capsules in __pyx_capi__, whose names are the C signatures that the wheel
// publishes; gpunn.cuda.device.wheel compares them with the wheel's own.
#include <Python.h>
#include <structmember.h>

#include <cstdio>
#include <tuple>

#include "texture.h"

using namespace gpunn_device;
typedef std::intptr_t Handle;

namespace {

PyObject* error_class;
PyObject* properties;  // of a device, as a dict

// ---- errors and Python's lock -----------------------------------------------------------------------------------

bool ok(int error) {
    if (!error) return true;
    if (PyObject* raised = PyObject_CallFunction(error_class, "i", error)) {
        PyErr_SetObject(error_class, raised);
        Py_DECREF(raised);
    }
    return false;
}

PyObject* none(int error) { return ok(error) ? Py_NewRef(Py_None) : nullptr; }

// Calls the device, alone.
template <class F> int on_device(F f) {
    Lock lock;
    try {
        return f();
    } catch (const std::bad_alloc&) {
        return out_of_memory;
    }
}

template <class F> int unless_broken(F f) {
    return on_device([&] {
        int error = broken();
        return error ? error : f();
    });
}

template <class F> int outside_captures(F f) {
    return unless_broken([&] {
        int error = unsafe_in_capture();
        return error ? error : f();
    });
}

// ---- its two classes ------------------------------------------------------------------------------------------------

struct PointerAttributes {
    PyObject_HEAD
    int device;
    Handle device_pointer, host_pointer;
    int type;
};

PyTypeObject* pointer_attributes_class;

struct PoolProperties {
    PyObject_HEAD
    int allocation_type, handle_type, location_type, device;
};

PyTypeObject* pool_properties_class;

// ---- from C functions to Python's -------------------------------------------------------------------------------

template <class T> struct Convert;
template <> struct Convert<int> {
    static bool from(PyObject* o, int* v) {
        long x = PyLong_AsLong(o);
        *v = (int)x;
        if (x == *v) return x != -1 || !PyErr_Occurred();
        PyErr_SetString(PyExc_OverflowError, "value too large to convert to int");
        return false;
    }
    static PyObject* to(int v) { return PyLong_FromLong(v); }
};
template <> struct Convert<unsigned> {
    static bool from(PyObject* o, unsigned* v) {
        unsigned long x = PyLong_AsUnsignedLong(o);
        *v = (unsigned)x;
        return !PyErr_Occurred();
    }
    static PyObject* to(unsigned v) { return PyLong_FromUnsignedLong(v); }
};
template <> struct Convert<std::intptr_t> {
    static bool from(PyObject* o, std::intptr_t* v) {
        PyObject* number = PyNumber_Index(o);
        if (!number) return false;
        *v = PyLong_AsLong(number);
        Py_DECREF(number);
        return *v != -1 || !PyErr_Occurred();
    }
    static PyObject* to(std::intptr_t v) { return PyLong_FromLong(v); }
};
template <> struct Convert<std::size_t> {
    static bool from(PyObject* o, std::size_t* v) {
        PyObject* number = PyNumber_Index(o);
        if (!number) return false;
        *v = PyLong_AsSize_t(number);
        Py_DECREF(number);
        return !PyErr_Occurred();
    }
    static PyObject* to(std::size_t v) { return PyLong_FromSize_t(v); }
};
template <> struct Convert<float> {
    static PyObject* to(float v) { return PyFloat_FromDouble(v); }
};
template <> struct Convert<PyObject*> {
    static bool from(PyObject* o, PyObject** v) {
        *v = o;
        return true;
    }
    static PyObject* to(PyObject* v) { return v; }
};

template <> struct Convert<PointerAttributes*> {
    static PyObject* to(PointerAttributes* v) { return (PyObject*)v; }
};
template <> struct Convert<PoolProperties*> {
    static bool from(PyObject* o, PoolProperties** v) {
        *v = (PoolProperties*)o;
        if (PyObject_TypeCheck(o, pool_properties_class)) return true;
        PyErr_Format(PyExc_TypeError, "expected MemPoolProps, got %s", Py_TYPE(o)->tp_name);
        return false;
    }
};

// What Cython passes for arguments that may be left out: how many were given, and those.
template <class T> struct Optional {
    int given;
    T value;
};

// Fills the arguments in, by position or name; the last `optional` ones may be missing.
bool collect(const char* function, const std::vector<const char*>& names, int optional, PyObject* const* given,
             Py_ssize_t count, PyObject* keywords, std::vector<PyObject*>& found) {
    found.assign(names.size(), nullptr);
    if ((std::size_t)count > names.size()) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zu arguments (%zd given)", function, names.size(), count);
        return false;
    }
    std::copy(given, given + count, found.begin());
    for (Py_ssize_t i = 0; keywords && i < PyTuple_GET_SIZE(keywords); i++) {
        PyObject* word = PyTuple_GET_ITEM(keywords, i);
        std::size_t at = 0;
        while (at < names.size() && PyUnicode_CompareWithASCIIString(word, names[at])) at++;
        if (at == names.size() || found[at]) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function, word);
            return false;
        }
        found[at] = given[count + i];
    }
    for (std::size_t i = 0; i + (std::size_t)optional < names.size(); i++)
        if (!found[i]) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", function, names[i]);
            return false;
        }
    return true;
}

template <auto f, class F = decltype(f)> struct Binding;

template <class... A, std::size_t... I> bool convert(std::tuple<A...>& values, PyObject* const* from,
                                                     std::index_sequence<I...>) {
    return (Convert<A>::from(from[I], &std::get<I>(values)) && ...);
}

struct Named {
    static inline std::map<const void*, std::pair<const char*, std::vector<const char*>>> of;
};

template <class R> PyObject* answered(R value) {
    return PyErr_Occurred() ? nullptr : Convert<R>::to(value);
}

// Functions that other extensions may call take one argument more: whether to skip a dispatch, which they never need.
template <auto f, class R, class... A> struct Binding<f, R (*)(A...)> {
    template <std::size_t... I>
    static PyObject* go(PyObject* const* given, Py_ssize_t count, PyObject* keywords, std::index_sequence<I...> all) {
        std::tuple<std::tuple_element_t<I, std::tuple<A...>>...> values;
        auto& [name, names] = Named::of[(const void*)f];
        std::vector<PyObject*> found;
        if (!collect(name, names, 0, given, count, keywords, found) || !convert(values, found.data(), all))
            return nullptr;
        return answered<R>(f(std::get<I>(values)..., 0));
    }
    static PyObject* call(PyObject*, PyObject* const* given, Py_ssize_t count, PyObject* keywords) {
        return go(given, count, keywords, std::make_index_sequence<sizeof...(A) - 1>());
    }
};

template <auto f, class R, class T, class... A> struct WithOptional {
    template <std::size_t... I>
    static PyObject* go(PyObject* const* given, Py_ssize_t count, PyObject* keywords, std::index_sequence<I...> all) {
        std::tuple<A...> values;
        Optional<T> last{0, T()};
        auto& [name, names] = Named::of[(const void*)f];
        std::vector<PyObject*> found;
        if (!collect(name, names, 1, given, count, keywords, found) || !convert(values, found.data(), all))
            return nullptr;
        if (found.back()) {
            last.given = 1;
            if (!Convert<T>::from(found.back(), &last.value)) return nullptr;
        }
        return answered<R>(f(std::get<I>(values)..., 0, &last));
    }
    static PyObject* call(PyObject*, PyObject* const* given, Py_ssize_t count, PyObject* keywords) {
        return go(given, count, keywords, std::make_index_sequence<sizeof...(A)>());
    }
};
template <auto f, class R, class T, class A> struct Binding<f, R (*)(A, int, Optional<T>*)> : WithOptional<f, R, T, A> {};
template <auto f, class R, class T, class A, class B>
struct Binding<f, R (*)(A, B, int, Optional<T>*)> : WithOptional<f, R, T, A, B> {};
template <auto f, class R, class T, class A, class B, class C>
struct Binding<f, R (*)(A, B, C, int, Optional<T>*)> : WithOptional<f, R, T, A, B, C> {};
template <auto f, class R, class T, class A, class B, class C, class D>
struct Binding<f, R (*)(A, B, C, D, int, Optional<T>*)> : WithOptional<f, R, T, A, B, C, D> {};

template <class T> T given_or(const Optional<T>* last, T otherwise) {
    return last && last->given ? last->value : otherwise;
}

// ---- versions and devices -------------------------------------------------------------------------------------------

PyObject* check_status(int status, int) { return none(status); }
int version(int) { return settings.version; }
int major_version(int) { return settings.version / 1000; }
int get_device(int) { return current_device(); }

// Whether there is no device of this number.
int device_error(int device) {
    note_use();
    return device >= 0 && device < settings.devices ? success : invalid_device;
}

int device_attribute(int number, int device, int) {
    int value = 0;
    note_use();
    return ok(attribute(&value, number, device)) ? value : -1;
}

PyObject* device_properties(int device, int) {
    if (!ok(device_error(device))) return nullptr;
    return PyObject_CallFunction(properties, "i", device);
}

int by_bus_id(PyObject* id, int) {
    const char* text = PyUnicode_AsUTF8(id);
    unsigned domain = 0, bus = 0, slot = 0;
    if (!text) return -1;
    int read = std::sscanf(text, "%x:%x:%x", &domain, &bus, &slot);
    if (!ok(read < 2 || !bus || bus > (unsigned)settings.devices ? invalid_device : success)) return -1;
    return (int)bus - 1;
}

PyObject* bus_id(int device, int) {
    if (!ok(device_error(device))) return nullptr;
    return PyUnicode_FromFormat("0000:%02x:00.0", device + 1);
}

int device_count(int) {
    note_use();
    return ok(settings.devices ? success : no_device) ? settings.devices : -1;
}

PyObject* choose_device(int device, int) { return none(set_device(device)); }
PyObject* synchronize(int) { return none(on_device(device_synchronize)); }

int can_access_peer(int of, int peer, int) {
    return ok(device_error(of)) && ok(device_error(peer)) ? of != peer : -1;
}

int enable_peer(int peer, bool again) {
    return on_device([=] {
        if (device_error(peer) || peer == current_device()) return (int)invalid_device;
        bool added = device(current_device()).peers.insert(peer).second;
        return added || again ? success : (int)peer_already_enabled;
    });
}

PyObject* enable_peer_access(int peer, int) { return none(enable_peer(peer, false)); }
PyObject* ensure_peer_access(int peer, int) { return none(enable_peer(peer, true)); }

PyObject* disable_peer_access(int peer, int) {
    return none(on_device([=] {
        return (int)(device(current_device()).peers.erase(peer) ? success : peer_not_enabled);
    }));
}

std::map<int, std::size_t> limits = {{0, 1024}, {1, 1 << 20}, {2, 8 << 20}, {3, 2}, {4, 2048}, {5, 128}, {6, 0}};

std::size_t limit(int number, int) {
    return ok(limits.count(number) ? success : unsupported_limit) ? limits[number] : (std::size_t)-1;
}

PyObject* set_limit(int number, std::size_t value, int) {
    if (!ok(limits.count(number) ? success : unsupported_limit)) return nullptr;
    limits[number] = value;
    return Py_NewRef(Py_None);
}

PyObject* ensure_context() { return Py_NewRef(Py_None); }

// ---- memory ---------------------------------------------------------------------------------------------------------

Handle malloc(std::size_t bytes, int) {
    void* memory = nullptr;
    ok(outside_captures([&] { return allocate(&memory, bytes, Kind::device); }));
    return (Handle)memory;
}

Handle malloc_managed(std::size_t bytes, int, Optional<unsigned>* flags) {
    void* memory = nullptr;
    unsigned attach = given_or(flags, 1u);
    ok(bytes && (attach == 1 || attach == 2) ? outside_captures([&] { return allocate(&memory, bytes, Kind::managed); })
                                  : (int)invalid_value);
    return (Handle)memory;
}

Handle malloc_async(std::size_t bytes, Handle stream, int) {
    void* memory = nullptr;
    ok(unless_broken([&] {
        if (int error = not_in_capture(stream, not_supported)) return error;  // graphs that allocate are not served
        return allocate(&memory, bytes, Kind::device, device(stream_of(stream)->device).current_pool);
    }));
    return (Handle)memory;
}

std::set<Pool*> pools;

Pool* pool_of(Handle handle) {
    for (int i = 0; i < settings.devices; i++)
        if (&device(i).pool == (Pool*)handle) return (Pool*)handle;
    return pools.count((Pool*)handle) ? (Pool*)handle : nullptr;
}

Handle malloc_from_pool(std::size_t bytes, Handle pool, Handle stream, int) {
    void* memory = nullptr;
    ok(unless_broken([&] {
        if (int error = not_in_capture(stream, not_supported)) return error;
        Pool* from = pool_of(pool);
        return from ? allocate(&memory, bytes, Kind::device, from) : (int)invalid_value;
    }));
    return (Handle)memory;
}

Handle host_alloc(std::size_t bytes, unsigned flags, int) {
    void* memory = nullptr;
    ok(flags > 7 ? (int)invalid_value : outside_captures([&] { return allocate(&memory, bytes, Kind::host); }));
    return (Handle)memory;
}

PyObject* host_register(Handle memory, std::size_t bytes, unsigned, int) {
    return none(outside_captures([=] { return register_host((void*)memory, bytes); }));
}

PyObject* host_unregister(Handle memory, int) {
    return none(outside_captures([=] {
        int error = run_all();
        return error ? error : unregister_host((void*)memory);
    }));
}

// What is in the streams may still work with the memory: it is waited for, as CUDA does.
PyObject* free_memory(Handle memory, Kind kind) {
    return none(outside_captures([=] {
        if (!memory) return (int)success;
        int error = run_all();
        return error ? error : release((void*)memory, kind);
    }));
}

PyObject* free_device(Handle memory, int) { return free_memory(memory, Kind::device); }
PyObject* free_host(Handle memory, int) { return free_memory(memory, Kind::host); }

PyObject* free_async(Handle memory, Handle stream, int) {
    return none(unless_broken([=] {
        Block* block = find_block((void*)memory);
        bool whole = block && block->begin == (char*)memory && block->kind == Kind::device && !block->registered;
        if (!whole || block->leaving) return (int)invalid_value;
        if (int error = not_in_capture(stream, not_supported)) return error;
        block->leaving = true;
        return enqueue(stream, "free", [=] { return release((void*)memory, Kind::device); });
    }));
}

PyObject* memory_info(int) {
    std::size_t used = 0;
    if (!ok(unless_broken([&] { return used = device(current_device()).used, (int)success; }))) return nullptr;
    return Py_BuildValue("(kk)", settings.memory - used, settings.memory);
}

int copy_now(Handle to, Handle from, std::size_t bytes, int direction) {
    return copy((void*)to, (void*)from, bytes, (Direction)direction, 0, false);
}

PyObject* memcpy(Handle to, Handle from, std::size_t bytes, int direction, int) {
    return none(unless_broken([=] { return copy_now(to, from, bytes, direction); }));
}

PyObject* memcpy_async(Handle to, Handle from, std::size_t bytes, int direction, Handle stream, int) {
    return none(unless_broken([=] {
        return copy((void*)to, (void*)from, bytes, (Direction)direction, stream, true);
    }));
}

PyObject* memcpy_peer(Handle to, int to_device, Handle from, int from_device, std::size_t bytes, int) {
    return none(unless_broken([=] {
        if (device_error(to_device) || device_error(from_device)) return (int)invalid_device;
        return copy_now(to, from, bytes, (int)Direction::device_to_device);
    }));
}

PyObject* memcpy_peer_async(Handle to, int to_device, Handle from, int from_device, std::size_t bytes, Handle stream,
                            int) {
    return none(unless_broken([=] {
        if (device_error(to_device) || device_error(from_device)) return (int)invalid_device;
        return copy((void*)to, (void*)from, bytes, Direction::device_to_device, stream, true);
    }));
}

PyObject* memcpy_2d(Handle to, std::size_t to_pitch, Handle from, std::size_t from_pitch, std::size_t width,
                    std::size_t height, int direction, int) {
    return none(unless_broken([=] {
        return copy_rows((void*)to, to_pitch, (void*)from, from_pitch, width, height, (Direction)direction, 0, false);
    }));
}

PyObject* memcpy_2d_async(Handle to, std::size_t to_pitch, Handle from, std::size_t from_pitch, std::size_t width,
                          std::size_t height, int direction, Handle stream, int) {
    return none(unless_broken([=] {
        return copy_rows((void*)to, to_pitch, (void*)from, from_pitch, width, height, (Direction)direction, stream,
                         true);
    }));
}

PyObject* memset(Handle memory, int value, std::size_t bytes, int) {
    return none(unless_broken([=] { return fill((void*)memory, value, bytes, 0, false); }));
}

PyObject* memset_async(Handle memory, int value, std::size_t bytes, Handle stream, int) {
    return none(unless_broken([=] { return fill((void*)memory, value, bytes, stream, true); }));
}

// Pages of managed memory are where both sides see them: nothing moves.
int managed(Handle memory, std::size_t bytes) {
    Block* block = find_block((void*)memory);
    bool inside = block && block->kind == Kind::managed && (char*)memory + bytes <= block->begin + block->bytes;
    return inside ? success : invalid_value;
}

// A device's number, or -1 for the host.
int place_error(int place) { return place == -1 ? (int)success : device_error(place); }

PyObject* prefetch(Handle memory, std::size_t bytes, int to, Handle stream, int) {
    return none(unless_broken([=] {
        if (int error = place_error(to)) return error;
        return stream_of(stream) ? managed(memory, bytes) : (int)invalid_handle;
    }));
}

PyObject* advise(Handle memory, std::size_t bytes, int advice, int about, int) {
    return none(unless_broken([=] {
        if (int error = place_error(about)) return error;
        bool known = advice >= 1 && advice <= 6;  // cudaMemoryAdvise
        return known ? managed(memory, bytes) : (int)invalid_value;
    }));
}

PointerAttributes* pointer_attributes(Handle memory, int) {
    Block found{};
    bool known = false;
    if (!ok(unless_broken([&] {
            if (Block* block = find_block((void*)memory)) found = *block, known = true;
            return (int)success;
        })))
        return nullptr;
    bool host = known && found.kind != Kind::device;
    PyObject* made = PyObject_CallFunction((PyObject*)pointer_attributes_class, "illi", known ? found.device : -2,
                                           known ? memory : 0, host ? memory : 0, (int)found.kind);
    return (PointerAttributes*)made;
}

int memory_type(Handle memory, int) {
    int kind = 0;
    ok(unless_broken([&] {
        if (Block* block = find_block((void*)memory)) kind = (int)block->kind;
        return (int)success;
    }));
    return PyErr_Occurred() ? -1 : kind;
}

// ---- pools of the runtime -------------------------------------------------------------------------------------------

Handle default_pool(int number, int) {
    return ok(device_error(number)) ? (Handle)&device(number).pool : 0;
}

Handle current_pool(int number, int) {
    Pool* pool = nullptr;
    ok(on_device([&] {
        if (int error = device_error(number)) return error;
        pool = device(number).current_pool;
        return (int)success;
    }));
    return (Handle)pool;
}

PyObject* set_pool(int number, Handle pool, int) {
    return none(on_device([=] {
        if (int error = device_error(number)) return error;
        Pool* wanted = pool_of(pool);
        if (!wanted || wanted->device != number) return (int)invalid_value;
        device(number).current_pool = wanted;
        return (int)success;
    }));
}

Handle pool_create(PoolProperties* wanted, int) {
    Pool* made = nullptr;
    ok(on_device([&] {
        if (wanted->allocation_type != 1 || wanted->location_type != 1) return (int)invalid_value;
        if (wanted->handle_type) return (int)not_supported;  // pools to share between processes
        if (int error = device_error(wanted->device)) return error;
        made = new Pool;
        made->device = wanted->device;
        pools.insert(made);
        return (int)success;
    }));
    return (Handle)made;
}

// The object stays, for memory of the pool that is in use.
PyObject* pool_destroy(Handle pool, int) {
    return none(on_device([=] { return pools.erase((Pool*)pool) ? (int)success : (int)invalid_value; }));
}

PyObject* pool_trim(Handle pool, std::size_t keep, int) {
    return none(on_device([=] {
        if (!pool_of(pool)) return (int)invalid_value;
        pool_of(pool)->give_back(keep);
        return (int)success;
    }));
}

// Numbers of cudaMemPoolAttr.
enum PoolAttribute { reuse_first = 1, reuse_last = 3, threshold, reserved, reserved_high, used, used_high };

PyObject* pool_attribute(Handle handle, int number, int) {
    std::uint64_t value = 0;
    bool found = ok(on_device([&] {
        Pool* pool = pool_of(handle);
        if (!pool || number < reuse_first || number > used_high) return (int)invalid_value;
        if (number <= reuse_last) value = (std::uint64_t)pool->reuse[number - reuse_first];
        if (number == threshold) value = pool->threshold;
        if (number == reserved) value = pool->reserved;
        if (number == used) value = pool->used;
        if (number == reserved_high) value = pool->reserved_high;
        if (number == used_high) value = pool->used_high;
        return (int)success;
    }));
    return found ? PyLong_FromUnsignedLongLong(value) : nullptr;
}

PyObject* set_pool_attribute(Handle handle, int number, PyObject* given, int) {
    std::size_t value;
    PyObject* whole = PyNumber_Long(given);  // as the wheel takes it: limits come as floats
    bool fits = whole && Convert<std::size_t>::from(whole, &value);
    Py_XDECREF(whole);
    if (!fits) return nullptr;
    return none(on_device([=] {
        Pool* pool = pool_of(handle);
        if (!pool || number < reuse_first || number > used_high) return (int)invalid_value;
        if (number <= reuse_last) return pool->reuse[number - reuse_first] = value != 0, (int)success;
        if (number == threshold) return pool->threshold = value, (int)success;
        // The marks of the highest use can be put back, to now.
        if (value || number == reserved || number == used) return (int)invalid_value;
        if (number == used_high) pool->used_high = pool->used;
        else pool->reserved_high = pool->reserved;
        return (int)success;
    }));
}

// ---- streams and events ---------------------------------------------------------------------------------------------

Handle create_stream(unsigned flags, int priority) {
    Handle stream = 0;
    ok(outside_captures([&] { return stream_create(&stream, flags, priority); }));
    return stream;
}

Handle new_stream(int) { return create_stream(0, 0); }
Handle new_stream_with_flags(unsigned flags, int) { return create_stream(flags, 0); }
Handle new_stream_with_priority(unsigned flags, int priority, int) { return create_stream(flags, priority); }

unsigned stream_flags(Handle handle, int) {
    unsigned flags = 0;
    ok(unless_broken([&] {
        Stream* stream = stream_of(handle);
        return stream ? (flags = stream->flags, (int)success) : (int)invalid_handle;
    }));
    return flags;
}

int stream_priority(Handle handle, int) {
    int priority = -1;
    ok(unless_broken([&] {
        Stream* stream = stream_of(handle);
        return stream ? (priority = stream->priority, (int)success) : (int)invalid_handle;
    }));
    return priority;
}

PyObject* destroy_stream(Handle stream, int) {
    return none(on_device([=] { return stream_destroy(stream); }));
}

PyObject* synchronize_stream(Handle stream, int) {
    return none(unless_broken([=] { return stream_synchronize(stream); }));
}

// Whether all is done: 0, or the number of an error, of which "not ready" is none. The wheel raises none of them.
template <class F> PyObject* answer(F query) { return PyLong_FromLong(unless_broken(query)); }

PyObject* query_stream(Handle stream, int) {
    return answer([=] { return stream_query(stream); });
}

PyObject* wait_event(Handle stream, Handle event, int, Optional<unsigned>* flags) {
    unsigned external = given_or(flags, 0u);  // 1: a node of a graph that waits each time, which is not served
    return none(unless_broken([=] {
        if (external) return external == 1 ? (int)not_supported : (int)invalid_value;
        return stream_wait(stream, event);
    }));
}

PyObject* begin_capture(Handle stream, int, Optional<int>* mode) {
    return none(unless_broken([=] { return capture_begin(stream, given_or(mode, 2)); }));
}

Handle end_capture(Handle stream, int) {
    Handle graph = 0;
    ok(unless_broken([&] { return capture_end(stream, &graph); }));
    return graph;
}

int is_capturing(Handle stream, int) {
    int status = 0;
    ok(unless_broken([&] { return capture_status(stream, &status); }));
    return PyErr_Occurred() ? -1 : status != 0;
}

// An object that work of a stream holds, given back under Python's lock.
std::shared_ptr<PyObject> held(PyObject* object) {
    return std::shared_ptr<PyObject>(Py_NewRef(object), [](PyObject* o) {
        if (!Py_IsInitialized()) return;
        PyGILState_STATE state = PyGILState_Ensure();
        Py_DECREF(o);
        PyGILState_Release(state);
    });
}

// Calls a function of Python as work of a stream: what it raises has nobody to go to.
template <class Arguments> PyObject* call_in_stream(Handle stream, PyObject* function, Arguments arguments) {
    auto called = held(function);
    return none(unless_broken([&] {
        return enqueue(stream, "host function", [=] {
            return call_host([&] {
                PyGILState_STATE state = PyGILState_Ensure();
                PyObject* tuple = arguments();
                PyObject* result = tuple ? PyObject_CallObject(called.get(), tuple) : nullptr;
                if (!result) PyErr_WriteUnraisable(called.get());
                Py_XDECREF(result);
                Py_XDECREF(tuple);
                PyGILState_Release(state);
            });
        });
    }));
}

PyObject* add_callback(Handle stream, PyObject* function, Handle argument, int, Optional<unsigned>* flags) {
    if (!ok(unless_broken([=] {
            return given_or(flags, 0u) ? (int)invalid_value : not_in_capture(stream, capture_unsupported);
        })))
        return nullptr;
    return call_in_stream(stream, function, [=] { return Py_BuildValue("(lil)", stream, 0, argument); });
}

PyObject* launch_host_function(Handle stream, PyObject* function, Handle argument, int) {
    return call_in_stream(stream, function, [=] { return Py_BuildValue("(l)", argument); });
}

PyObject* launch_host_function_unmanaged(Handle stream, PyObject* function_and_argument, int) {
    PyObject *function, *argument;
    if (!PyArg_ParseTuple(function_and_argument, "OO", &function, &argument)) return nullptr;
    auto kept = held(argument);
    return call_in_stream(stream, function, [=] { return Py_BuildValue("(O)", kept.get()); });
}

Handle create_event(unsigned flags) {
    Handle event = 0;
    ok(unless_broken([&] { return event_create(&event, flags); }));
    return event;
}

Handle new_event(int) { return create_event(0); }
Handle new_event_with_flags(unsigned flags, int) { return create_event(flags); }

PyObject* destroy_event(Handle event, int) {
    return none(on_device([=] { return event_destroy(event); }));
}

float elapsed(Handle start, Handle end, int) {
    float milliseconds = 0;
    ok(unless_broken([&] { return event_elapsed(&milliseconds, start, end); }));
    return PyErr_Occurred() ? 0.0f : milliseconds;
}

PyObject* query_event(Handle event, int) {
    return answer([=] { return event_query(event); });
}

PyObject* record_event(Handle event, Handle stream, int) {
    return none(unless_broken([=] { return event_record(event, stream); }));
}

PyObject* synchronize_event(Handle event, int) {
    return none(unless_broken([=] { return event_synchronize(event); }));
}

// ---- graphs ---------------------------------------------------------------------------------------------------------

PyObject* destroy_graph(Handle graph, int) {
    return none(on_device([=] { return graph_destroy(graph); }));
}

PyObject* destroy_executable(Handle executable, int) {
    return none(on_device([=] { return graph_executable_destroy(executable); }));
}

Handle instantiate(Handle graph, int) {
    Handle executable = 0;
    ok(unless_broken([&] { return graph_instantiate(graph, &executable); }));
    return executable;
}

PyObject* launch_graph(Handle executable, Handle stream, int) {
    return none(unless_broken([=] { return graph_launch(executable, stream); }));
}

PyObject* upload_graph(Handle executable, Handle stream, int) {
    return none(unless_broken([=] { return graph_upload(executable, stream); }));
}

PyObject* draw_graph(Handle graph, PyObject* path, unsigned flags, int) {
    const char* text = PyUnicode_AsUTF8(path);
    return text ? none(on_device([=] { return graph_draw(graph, text, flags & 1); })) : nullptr;
}

PyObject* nothing(int) { return Py_NewRef(Py_None); }

// ---- arrays, textures and surfaces ----------------------------------------------------------------------------------

typedef std::size_t Size;

Extent make_extent(Size width, Size height, Size depth) { return {width, height, depth}; }
PitchedPointer make_pitched(Handle memory, Size pitch, Size width, Size height) {
    return {(void*)memory, pitch, width, height};
}
Position make_position(Size x, Size y, Size z) { return {x, y, z}; }

Handle created_array(Handle format, Extent extent, const Optional<unsigned>* flags) {
    Handle array = 0;
    ok(outside_captures([&] {
        if (!format) return (int)invalid_value;
        return array_create(&array, *(const ChannelFormat*)format, extent, given_or(flags, 0u));
    }));
    return array;
}

Handle new_array_3d(Handle format, Size width, Size height, Size depth, int, Optional<unsigned>* flags) {
    return created_array(format, {width, height, depth}, flags);
}
Handle new_array(Handle format, Size width, Size height, int, Optional<unsigned>* flags) {
    return created_array(format, {width, height, 0}, flags);
}
PyObject* free_array(Handle array, int) {
    return none(outside_captures([=] { return array_destroy(array); }));
}

ChannelFormat channel_format(Handle array) {
    ChannelFormat format{};
    ok(on_device([&] { return array_format(array, &format); }));
    return format;
}

ResourceDescription resource_description(std::uintmax_t texture) {
    ResourceDescription found{};
    ok(on_device([&] { return texture_describe(texture, &found, nullptr); }));
    return found;
}
TextureDescription texture_description(std::uintmax_t texture) {
    TextureDescription found{};
    ok(on_device([&] { return texture_describe(texture, nullptr, &found); }));
    return found;
}

std::uintmax_t new_texture(Handle resource, Handle description, int) {
    std::uintmax_t made = 0;
    ok(unless_broken([&] {
        if (!resource || !description) return (int)invalid_value;
        return texture_create(&made, *(const ResourceDescription*)resource, *(const TextureDescription*)description);
    }));
    return made;
}
std::uintmax_t new_surface(Handle resource, int) {
    std::uintmax_t made = 0;
    ok(unless_broken([&] {
        return resource ? surface_create(&made, *(const ResourceDescription*)resource) : (int)invalid_value;
    }));
    return made;
}
PyObject* free_texture(std::uintmax_t texture, int) {
    return none(on_device([=] { return texture_destroy(texture, false); }));
}
PyObject* free_surface(std::uintmax_t surface, int) {
    return none(on_device([=] { return texture_destroy(surface, true); }));
}

PyObject* from_array(Handle to, Size pitch, Handle array, Size x, Size y, Size width, Size height, int direction, int) {
    return none(unless_broken([=] {
        return copy_from_array((void*)to, pitch, array, x, y, width, height, (Direction)direction, 0, false);
    }));
}
PyObject* from_array_async(Handle to, Size pitch, Handle array, Size x, Size y, Size width, Size height, int direction,
                           Handle stream, int) {
    return none(unless_broken([=] {
        return copy_from_array((void*)to, pitch, array, x, y, width, height, (Direction)direction, stream, true);
    }));
}
PyObject* to_array(Handle array, Size x, Size y, Handle from, Size pitch, Size width, Size height, int direction, int) {
    return none(unless_broken([=] {
        return copy_to_array(array, x, y, (void*)from, pitch, width, height, (Direction)direction, 0, false);
    }));
}
PyObject* to_array_async(Handle array, Size x, Size y, Handle from, Size pitch, Size width, Size height, int direction,
                         Handle stream, int) {
    return none(unless_broken([=] {
        return copy_to_array(array, x, y, (void*)from, pitch, width, height, (Direction)direction, stream, true);
    }));
}
PyObject* memcpy_3d(Handle copy, int) {
    return none(unless_broken([=] { return copy ? copy_box(*(const BoxCopy*)copy, 0, false) : (int)invalid_value; }));
}
PyObject* memcpy_3d_async(Handle copy, Handle stream, int) {
    return none(unless_broken([=] {
        return copy ? copy_box(*(const BoxCopy*)copy, stream, true) : (int)invalid_value;
    }));
}

// ---- what is not served: memory of other processes ------------------------------------------------------------------

template <class R> R refused() {
    ok(not_supported);
    return R();
}

PyObject* close_memory(Handle, int) { return refused<PyObject*>(); }
PyObject* event_handle(Handle, int) { return refused<PyObject*>(); }
PyObject* memory_handle(Handle, int) { return refused<PyObject*>(); }
PyObject* open_event(PyObject*, int) { return refused<PyObject*>(); }
PyObject* open_memory(PyObject*, int, Optional<unsigned>*) { return refused<PyObject*>(); }

// ---- the module -----------------------------------------------------------------------------------------------------

struct Exported {
    const char* name;
    const void* function;
    const char* signature;  // null: for Python only
    PyObject* (*call)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);  // null: for C only
    std::vector<const char*> arguments;
};

#define C_ONLY(name, f, signature) {name, (const void*)&f, signature, nullptr, {}}
#define PYTHON_ONLY(name, f, ...) {name, (const void*)&f, nullptr, &Binding<&f>::call, {__VA_ARGS__}}
#define BOTH(name, f, signature, ...) \
    {name, (const void*)&f, signature " __pyx_skip_dispatch)", &Binding<&f>::call, {__VA_ARGS__}}
#define OPTIONAL(name, f, signature, ...)                                                                   \
    {name, (const void*)&f,                                                                                 \
     signature " __pyx_skip_dispatch, struct __pyx_opt_args_13cupy_backends_4cuda_3api_7runtime_" name      \
               " *__pyx_optional_args)",                                                                    \
     &Binding<&f>::call, {__VA_ARGS__}}
#define CLASS "struct __pyx_obj_13cupy_backends_4cuda_3api_7runtime_"

const std::vector<Exported> exported = {
    C_ONLY("_ensure_context", ensure_context, "PyObject *(void)"),
    BOTH("check_status", check_status, "PyObject *(int, int", "status"),
    BOTH("driverGetVersion", version, "int (int"),
    BOTH("runtimeGetVersion", version, "int (int"),
    PYTHON_ONLY("_getLocalRuntimeVersion", version),
    BOTH("_getCUDAMajorVersion", major_version, "int (int"),
    BOTH("getDevice", get_device, "int (int"),
    BOTH("deviceGetAttribute", device_attribute, "int (int, int, int", "attrib", "device"),
    BOTH("getDeviceProperties", device_properties, "PyObject *(int, int", "device"),
    BOTH("deviceGetByPCIBusId", by_bus_id, "int (PyObject *, int", "pci_bus_id"),
    BOTH("deviceGetPCIBusId", bus_id, "PyObject *(int, int", "device"),
    BOTH("getDeviceCount", device_count, "int (int"),
    BOTH("setDevice", choose_device, "PyObject *(int, int", "device"),
    BOTH("deviceSynchronize", synchronize, "PyObject *(int"),
    BOTH("deviceCanAccessPeer", can_access_peer, "int (int, int, int", "device", "peerDevice"),
    BOTH("deviceEnablePeerAccess", enable_peer_access, "PyObject *(int, int", "peerDevice"),
    BOTH("_deviceEnsurePeerAccess", ensure_peer_access, "PyObject *(int, int", "peerDevice"),
    PYTHON_ONLY("deviceDisablePeerAccess", disable_peer_access, "peerDevice"),
    BOTH("deviceGetLimit", limit, "size_t (int, int", "limit"),
    BOTH("deviceSetLimit", set_limit, "PyObject *(int, size_t, int", "limit", "value"),
    BOTH("malloc", malloc, "intptr_t (size_t, int", "size"),
    OPTIONAL("mallocManaged", malloc_managed, "intptr_t (size_t, int", "size", "flags"),
    BOTH("mallocAsync", malloc_async, "intptr_t (size_t, intptr_t, int", "size", "stream"),
    BOTH("mallocFromPoolAsync", malloc_from_pool, "intptr_t (size_t, intptr_t, intptr_t, int", "size", "pool",
         "stream"),
    BOTH("hostAlloc", host_alloc, "intptr_t (size_t, unsigned int, int", "size", "flags"),
    BOTH("hostRegister", host_register, "PyObject *(intptr_t, size_t, unsigned int, int", "ptr", "size", "flags"),
    BOTH("hostUnregister", host_unregister, "PyObject *(intptr_t, int", "ptr"),
    BOTH("free", free_device, "PyObject *(intptr_t, int", "ptr"),
    BOTH("freeHost", free_host, "PyObject *(intptr_t, int", "ptr"),
    BOTH("freeAsync", free_async, "PyObject *(intptr_t, intptr_t, int", "ptr", "stream"),
    BOTH("memGetInfo", memory_info, "PyObject *(int"),
    BOTH("memcpy", memcpy, "PyObject *(intptr_t, intptr_t, size_t, int, int", "dst", "src", "size", "kind"),
    BOTH("memcpyAsync", memcpy_async, "PyObject *(intptr_t, intptr_t, size_t, int, intptr_t, int", "dst", "src",
         "size", "kind", "stream"),
    BOTH("memcpyPeer", memcpy_peer, "PyObject *(intptr_t, int, intptr_t, int, size_t, int", "dst", "dstDevice", "src",
         "srcDevice", "size"),
    BOTH("memcpyPeerAsync", memcpy_peer_async, "PyObject *(intptr_t, int, intptr_t, int, size_t, intptr_t, int", "dst",
         "dstDevice", "src", "srcDevice", "size", "stream"),
    BOTH("memcpy2D", memcpy_2d,
         "PyObject *(intptr_t, size_t, intptr_t, size_t, size_t, size_t, cudaMemcpyKind, int", "dst", "dpitch", "src",
         "spitch", "width", "height", "kind"),
    BOTH("memcpy2DAsync", memcpy_2d_async,
         "PyObject *(intptr_t, size_t, intptr_t, size_t, size_t, size_t, cudaMemcpyKind, intptr_t, int", "dst",
         "dpitch", "src", "spitch", "width", "height", "kind", "stream"),
    BOTH("memset", memset, "PyObject *(intptr_t, int, size_t, int", "ptr", "value", "size"),
    BOTH("memsetAsync", memset_async, "PyObject *(intptr_t, int, size_t, intptr_t, int", "ptr", "value", "size",
         "stream"),
    BOTH("memPrefetchAsync", prefetch, "PyObject *(intptr_t, size_t, int, intptr_t, int", "devPtr", "count",
         "dstDevice", "stream"),
    BOTH("memAdvise", advise, "PyObject *(intptr_t, size_t, int, int, int", "devPtr", "count", "advice", "device"),
    BOTH("pointerGetAttributes", pointer_attributes, CLASS "PointerAttributes *(intptr_t, int", "ptr"),
    BOTH("pointerGetMemoryType", memory_type, "int (intptr_t, int", "ptr"),
    BOTH("deviceGetDefaultMemPool", default_pool, "intptr_t (int, int", "device"),
    BOTH("deviceGetMemPool", current_pool, "intptr_t (int, int", "device"),
    BOTH("deviceSetMemPool", set_pool, "PyObject *(int, intptr_t, int", "device", "pool"),
    BOTH("memPoolCreate", pool_create, "intptr_t (" CLASS "MemPoolProps *, int", "props"),
    BOTH("memPoolDestroy", pool_destroy, "PyObject *(intptr_t, int", "pool"),
    BOTH("memPoolTrimTo", pool_trim, "PyObject *(intptr_t, size_t, int", "pool", "size"),
    BOTH("memPoolGetAttribute", pool_attribute, "PyObject *(intptr_t, int, int", "pool", "attr"),
    BOTH("memPoolSetAttribute", set_pool_attribute, "PyObject *(intptr_t, int, PyObject *, int", "pool", "attr",
         "value"),
    BOTH("streamCreate", new_stream, "intptr_t (int"),
    BOTH("streamCreateWithFlags", new_stream_with_flags, "intptr_t (unsigned int, int", "flags"),
    BOTH("streamCreateWithPriority", new_stream_with_priority, "intptr_t (unsigned int, int, int", "flags",
         "priority"),
    BOTH("streamGetFlags", stream_flags, "unsigned int (intptr_t, int", "stream"),
    BOTH("streamGetPriority", stream_priority, "int (intptr_t, int", "stream"),
    BOTH("streamDestroy", destroy_stream, "PyObject *(intptr_t, int", "stream"),
    BOTH("streamSynchronize", synchronize_stream, "PyObject *(intptr_t, int", "stream"),
    BOTH("streamQuery", query_stream, "PyObject *(intptr_t, int", "stream"),
    OPTIONAL("streamWaitEvent", wait_event, "PyObject *(intptr_t, intptr_t, int", "stream", "event", "flags"),
    OPTIONAL("streamAddCallback", add_callback, "PyObject *(intptr_t, PyObject *, intptr_t, int", "stream", "callback",
             "arg", "flags"),
    BOTH("launchHostFunc", launch_host_function, "PyObject *(intptr_t, PyObject *, intptr_t, int", "stream",
         "callback", "arg"),
    BOTH("_launchHostFuncUnmanaged", launch_host_function_unmanaged, "PyObject *(intptr_t, PyObject *, int", "stream",
         "func_arg"),
    OPTIONAL("streamBeginCapture", begin_capture, "PyObject *(intptr_t, int", "stream", "mode"),
    BOTH("streamEndCapture", end_capture, "intptr_t (intptr_t, int", "stream"),
    BOTH("streamIsCapturing", is_capturing, "int (intptr_t, int", "stream"),
    BOTH("eventCreate", new_event, "intptr_t (int"),
    BOTH("eventCreateWithFlags", new_event_with_flags, "intptr_t (unsigned int, int", "flags"),
    BOTH("eventDestroy", destroy_event, "PyObject *(intptr_t, int", "event"),
    BOTH("eventElapsedTime", elapsed, "float (intptr_t, intptr_t, int", "start", "end"),
    BOTH("eventQuery", query_event, "PyObject *(intptr_t, int", "event"),
    BOTH("eventRecord", record_event, "PyObject *(intptr_t, intptr_t, int", "event", "stream"),
    BOTH("eventSynchronize", synchronize_event, "PyObject *(intptr_t, int", "event"),
    BOTH("graphDestroy", destroy_graph, "PyObject *(intptr_t, int", "graph"),
    BOTH("graphExecDestroy", destroy_executable, "PyObject *(intptr_t, int", "graphExec"),
    BOTH("graphInstantiate", instantiate, "intptr_t (intptr_t, int", "graph"),
    BOTH("graphLaunch", launch_graph, "PyObject *(intptr_t, intptr_t, int", "graphExec", "stream"),
    BOTH("graphUpload", upload_graph, "PyObject *(intptr_t, intptr_t, int", "graphExec", "stream"),
    BOTH("graphDebugDotPrint", draw_graph, "PyObject *(intptr_t, PyObject *, unsigned int, int", "graph", "path",
         "flags"),
    BOTH("profilerStart", nothing, "PyObject *(int"),
    BOTH("profilerStop", nothing, "PyObject *(int"),
    C_ONLY("make_Extent", make_extent, "cudaExtent (size_t, size_t, size_t)"),
    C_ONLY("make_PitchedPtr", make_pitched, "cudaPitchedPtr (intptr_t, size_t, size_t, size_t)"),
    C_ONLY("make_Pos", make_position, "cudaPos (size_t, size_t, size_t)"),
    OPTIONAL("malloc3DArray", new_array_3d, "intptr_t (intptr_t, size_t, size_t, size_t, int", "descPtr", "width",
             "height", "depth", "flags"),
    OPTIONAL("mallocArray", new_array, "intptr_t (intptr_t, size_t, size_t, int", "descPtr", "width", "height",
             "flags"),
    BOTH("freeArray", free_array, "PyObject *(intptr_t, int", "ptr"),
    C_ONLY("getChannelDesc", channel_format, "cudaChannelFormatDesc (intptr_t)"),
    C_ONLY("getTextureObjectResourceDesc", resource_description, "cudaResourceDesc (uintmax_t)"),
    C_ONLY("getTextureObjectTextureDesc", texture_description, "cudaTextureDesc (uintmax_t)"),
    BOTH("createSurfaceObject", new_surface, "uintmax_t (intptr_t, int", "ResDescPtr"),
    BOTH("createTextureObject", new_texture, "uintmax_t (intptr_t, intptr_t, int", "ResDescPtr", "TexDescPtr"),
    BOTH("destroySurfaceObject", free_surface, "PyObject *(uintmax_t, int", "surfObject"),
    BOTH("destroyTextureObject", free_texture, "PyObject *(uintmax_t, int", "texObject"),
    BOTH("memcpy2DFromArray", from_array,
         "PyObject *(intptr_t, size_t, intptr_t, size_t, size_t, size_t, size_t, int, int", "dst", "dpitch", "src",
         "wOffset", "hOffset", "width", "height", "kind"),
    BOTH("memcpy2DFromArrayAsync", from_array_async,
         "PyObject *(intptr_t, size_t, intptr_t, size_t, size_t, size_t, size_t, int, intptr_t, int", "dst", "dpitch",
         "src", "wOffset", "hOffset", "width", "height", "kind", "stream"),
    BOTH("memcpy2DToArray", to_array,
         "PyObject *(intptr_t, size_t, size_t, intptr_t, size_t, size_t, size_t, int, int", "dst", "wOffset",
         "hOffset", "src", "spitch", "width", "height", "kind"),
    BOTH("memcpy2DToArrayAsync", to_array_async,
         "PyObject *(intptr_t, size_t, size_t, intptr_t, size_t, size_t, size_t, int, intptr_t, int", "dst",
         "wOffset", "hOffset", "src", "spitch", "width", "height", "kind", "stream"),
    BOTH("memcpy3D", memcpy_3d, "PyObject *(intptr_t, int", "Memcpy3DParmsPtr"),
    BOTH("memcpy3DAsync", memcpy_3d_async, "PyObject *(intptr_t, intptr_t, int", "Memcpy3DParmsPtr", "stream"),
    PYTHON_ONLY("ipcCloseMemHandle", close_memory, "devPtr"),
    PYTHON_ONLY("ipcGetEventHandle", event_handle, "event"),
    PYTHON_ONLY("ipcGetMemHandle", memory_handle, "devPtr"),
    PYTHON_ONLY("ipcOpenEventHandle", open_event, "handle"),
    PYTHON_ONLY("ipcOpenMemHandle", open_memory, "handle", "flags"),
};

// Numbers that other extensions read as C variables.
int is_hip = 0, capability_major = 75, capability_minor = 76, error_destroyed = context_is_destroyed,
    error_handle = invalid_handle, error_value = invalid_value, error_memory = out_of_memory,
    error_peer = peer_already_enabled;

const std::vector<std::pair<const char*, int*>> variables = {
    {"_is_hip_environment", &is_hip},
    {"deviceAttributeComputeCapabilityMajor", &capability_major},
    {"deviceAttributeComputeCapabilityMinor", &capability_minor},
    {"errorContextIsDestroyed", &error_destroyed},
    {"errorInvalidResourceHandle", &error_handle},
    {"errorInvalidValue", &error_value},
    {"errorMemoryAllocation", &error_memory},
    {"errorPeerAccessAlreadyEnabled", &error_peer},
};

PyObject* error_words(PyObject*, PyObject* number) {
    int error = (int)PyLong_AsLong(number);
    return PyErr_Occurred() ? nullptr : Py_BuildValue("(ss)", error_name(error), error_text(error));
}

// ---- its two classes, for Python ------------------------------------------------------------------------------------

int init_pointer_attributes(PyObject* self, PyObject* arguments, PyObject* keywords) {
    auto* made = (PointerAttributes*)self;
    static const char* names[] = {"device", "devicePointer", "hostPointer", "type", nullptr};
    made->type = -1;
    return PyArg_ParseTupleAndKeywords(arguments, keywords, "ill|i", (char**)names, &made->device,
                                       &made->device_pointer, &made->host_pointer, &made->type)
               ? 0
               : -1;
}

int init_pool_properties(PyObject* self, PyObject* arguments, PyObject* keywords) {
    auto* made = (PoolProperties*)self;
    static const char* names[] = {"allocType", "handleType", "locationType", "devId", nullptr};
    return PyArg_ParseTupleAndKeywords(arguments, keywords, "iiii", (char**)names, &made->allocation_type,
                                       &made->handle_type, &made->location_type, &made->device)
               ? 0
               : -1;
}

PyMemberDef pointer_members[] = {
    {"device", T_INT, offsetof(PointerAttributes, device), READONLY, nullptr},
    {"devicePointer", T_LONG, offsetof(PointerAttributes, device_pointer), READONLY, nullptr},
    {"hostPointer", T_LONG, offsetof(PointerAttributes, host_pointer), READONLY, nullptr},
    {"type", T_INT, offsetof(PointerAttributes, type), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot pointer_slots[] = {
    {Py_tp_init, (void*)init_pointer_attributes}, {Py_tp_members, pointer_members}, {0, nullptr}};
PyType_Spec pointer_spec = {"cupy_backends.cuda.api.runtime.PointerAttributes", sizeof(PointerAttributes), 0,
                            Py_TPFLAGS_DEFAULT, pointer_slots};
PyType_Slot pool_slots[] = {{Py_tp_init, (void*)init_pool_properties}, {0, nullptr}};
PyType_Spec pool_spec = {"cupy_backends.cuda.api.runtime.MemPoolProps", sizeof(PoolProperties), 0,
                         Py_TPFLAGS_DEFAULT, pool_slots};

// ---- the rest of it is Python ---------------------------------------------------------------------------------------

const char python_part[] = R"(
from cupy_backends.cuda.api import _runtime_enum

globals().update({name: value for name, value in vars(_runtime_enum).items() if not name.startswith("__")})

is_hip = False
eventDefault, eventBlockingSync, eventDisableTiming, eventInterprocess = 0, 1, 2, 4
hostAllocDefault, hostAllocPortable, hostAllocMapped, hostAllocWriteCombined = 0, 1, 2, 4
memcpyHostToHost, memcpyHostToDevice, memcpyDeviceToHost, memcpyDeviceToDevice, memcpyDefault = range(5)
memoryTypeUnregistered, memoryTypeHost, memoryTypeDevice, memoryTypeManaged = range(4)
streamCaptureModeGlobal, streamCaptureModeThreadLocal, streamCaptureModeRelaxed = range(3)
streamCaptureStatusNone, streamCaptureStatusActive, streamCaptureStatusInvalidated = range(3)
streamDefault, streamNonBlocking, streamLegacy, streamPerThread = 0, 1, 1, 2


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        self.status = status
        super().__init__("{}: {}".format(*_error_words(status)))

    def __reduce__(self):
        return type(self), (self.status,)


def _properties(device):
    of = lambda number: deviceGetAttribute(number, device)
    size = lambda *numbers: tuple(map(of, numbers))
    total = memGetInfo()[1]
    return {
        "name": b"gpunn emulated device",
        "totalGlobalMem": total,
        "sharedMemPerBlock": of(8),
        "regsPerBlock": of(12),
        "warpSize": of(10),
        "maxThreadsPerBlock": of(1),
        "maxThreadsDim": size(2, 3, 4),
        "maxGridSize": size(5, 6, 7),
        "clockRate": of(13),
        "totalConstMem": of(9),
        "major": of(75),
        "minor": of(76),
        "textureAlignment": of(14),
        "texturePitchAlignment": 32,
        "multiProcessorCount": of(16),
        "kernelExecTimeoutEnabled": 0,
        "integrated": 0,
        "canMapHostMemory": 1,
        "computeMode": 0,
        "concurrentKernels": 1,
        "ECCEnabled": 0,
        "pciBusID": of(33),
        "pciDeviceID": 0,
        "pciDomainID": 0,
        "tccDriver": 0,
        "memoryClockRate": of(36),
        "memoryBusWidth": of(37),
        "l2CacheSize": of(38),
        "maxThreadsPerMultiProcessor": of(39),
        "asyncEngineCount": of(40),
        "unifiedAddressing": 1,
        "isMultiGpuBoard": 0,
        "multiGpuBoardGroupID": device,
        "streamPrioritiesSupported": 1,
        "globalL1CacheSupported": 1,
        "localL1CacheSupported": 1,
        "sharedMemPerMultiprocessor": of(81),
        "regsPerMultiprocessor": of(82),
        "managedMemory": 1,
        "cooperativeLaunch": 1,
        "sharedMemPerBlockOptin": of(97),
        "maxBlocksPerMultiProcessor": of(106),
        "pageableMemoryAccess": 0,
        "concurrentManagedAccess": 0,
        "computePreemptionSupported": 0,
        "hostNativeAtomicSupported": 0,
        "uuid": b"gpunn device %03d" % device,
    }
)";

bool fill_module(PyObject* module) {
    static std::vector<PyMethodDef> methods;
    static PyMethodDef words = {"_error_words", error_words, METH_O, nullptr};
    PyObject* name = PyUnicode_FromString("cupy_backends.cuda.api.runtime");
    PyObject* capi = PyDict_New();
    methods.reserve(exported.size());
    for (const Exported& each : exported) {
        Named::of[each.function] = {each.name, each.arguments};
        if (each.call) {
            methods.push_back({each.name, (PyCFunction)(void (*)())each.call, METH_FASTCALL | METH_KEYWORDS, nullptr});
            if (PyModule_AddObject(module, each.name, PyCFunction_NewEx(&methods.back(), nullptr, name))) return false;
        }
        if (each.signature) {
            PyObject* capsule = PyCapsule_New((void*)each.function, each.signature, nullptr);
            if (!capsule || PyDict_SetItemString(capi, each.name, capsule)) return false;
        }
    }
    for (auto& [variable, value] : variables) {
        PyObject* capsule = PyCapsule_New(value, "int", nullptr);
        if (!capsule || PyDict_SetItemString(capi, variable, capsule)) return false;
    }
    pointer_attributes_class = (PyTypeObject*)PyType_FromSpec(&pointer_spec);
    pool_properties_class = (PyTypeObject*)PyType_FromSpec(&pool_spec);
    if (!pointer_attributes_class || !pool_properties_class) return false;
    if (PyModule_AddObjectRef(module, "PointerAttributes", (PyObject*)pointer_attributes_class) ||
        PyModule_AddObjectRef(module, "MemPoolProps", (PyObject*)pool_properties_class) ||
        PyModule_AddObject(module, "__pyx_capi__", capi) ||
        PyModule_AddObject(module, "_error_words", PyCFunction_NewEx(&words, nullptr, name)))
        return false;
    PyObject* globals = PyModule_GetDict(module);
    if (PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins())) return false;
    PyObject* run = PyRun_String(python_part, Py_file_input, globals, globals);
    if (!run) return false;
    Py_DECREF(run);
    error_class = Py_XNewRef(PyDict_GetItemString(globals, "CUDARuntimeError"));
    properties = Py_XNewRef(PyDict_GetItemString(globals, "_properties"));
    return error_class && properties;
}

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "cupy_backends.cuda.api.runtime",
                          "The CUDA runtime, on the emulated device of gpunn.", -1, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_runtime() {
    PyObject* module = PyModule_Create(&definition);
    if (module && fill_module(module)) return module;
    Py_XDECREF(module);
    return nullptr;
}
