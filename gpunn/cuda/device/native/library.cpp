// Work of CUDA's libraries, which the host does: what it may touch, and how that is told.
#include <Python.h>

#include "device.h"

namespace gpunn_device {

int reach(const char* label, int number, const void* memory, Rows rows, bool write) {
    if (!rows.extent()) return success;
    const Block* block = find_block(memory);
    bool inside = block && (const char*)memory + rows.extent() <= block->begin + block->bytes;
    bool near = inside && (block->kind != Kind::device || block->device == number ||
                           device(number).peers.count(block->device));
    if (near) return touch(memory, rows, write);
    set_report(std::string(label) + ": an argument lies outside the memory of the device");
    if (!settings.check) break_device(illegal_address);
    return illegal_address;
}

namespace {

// The work in Python that is done now.
struct PythonWork {
    const char* label = nullptr;
    int device = 0, error = success;
};

PythonWork python_work;

}  // namespace

}  // namespace gpunn_device

using namespace gpunn_device;

// Has a function of Python called as work of a stream. It returns an Error. To be called with Python's lock in hand.
GPUNN_API int gpunn_device_enqueue(std::intptr_t stream_handle, const char* label, PyObject* function) {
    std::shared_ptr<PyObject> called(Py_NewRef(function), [](PyObject* object) {
        if (!Py_IsInitialized()) return;
        PyGILState_STATE state = PyGILState_Ensure();
        Py_DECREF(object);
        PyGILState_Release(state);
    });
    Lock lock;
    if (int error = broken()) return error;
    Stream* stream = stream_of(stream_handle);
    if (!stream) return invalid_handle;
    return enqueue(stream_handle, label, [=, name = std::string(label), device = stream->device] {
        PythonWork outer = python_work;  // work may be waited for by other work
        python_work = {name.c_str(), device, success};
        PyGILState_STATE state = PyGILState_Ensure();
        PyObject* result = PyObject_CallNoArgs(called.get());
        int error = result ? (int)PyLong_AsLong(result) : launch_failure;
        if (!result) PyErr_WriteUnraisable(called.get());
        Py_XDECREF(result);
        PyGILState_Release(state);
        if (!error) error = python_work.error;
        python_work = outer;
        return error;
    });
}

// Tells that the work in Python that is done now touches memory; illegal_address if it must not, or is not there.
GPUNN_API int gpunn_device_reach(const void* memory, std::size_t width, std::size_t height, std::size_t pitch, int write) {
    Lock lock;
    if (!python_work.label) return illegal_state;
    int error = reach(python_work.label, python_work.device, memory, {width, height, pitch}, write);
    if (error != illegal_address) python_work.error = error ? error : python_work.error;
    return error == illegal_address ? error : success;
}
