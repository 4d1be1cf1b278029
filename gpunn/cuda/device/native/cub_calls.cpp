// How CuPy's compiled modules call the functions of modules/cub.py: through capsules with C functions, as Cython has
// them.
#include <Python.h>

#include "device.h"

namespace {

PyObject *reduction, *scan, *compatible;

// Arguments that may be left out, the first `given` of which are there.
struct OptionalArguments {
    int given;
    PyObject *axis, *dtype, *out, *keepdims;
};

PyObject* call_reduction(PyObject* array, PyObject* op, int, OptionalArguments* optional) {
    PyObject* arguments[] = {array, op, Py_None, Py_None, Py_None, Py_False};
    if (optional) {
        PyObject* given[] = {optional->axis, optional->dtype, optional->out, optional->keepdims};
        for (int i = 0; i < optional->given; i++) arguments[2 + i] = given[i];
    }
    return PyObject_Vectorcall(reduction, arguments, 6, nullptr);
}

PyObject* call_scan(PyObject* array, PyObject* op, int) {
    PyObject* arguments[] = {array, op};
    return PyObject_Vectorcall(scan, arguments, 2, nullptr);
}

int call_compatible(PyObject* axes, Py_ssize_t dimensions, PyObject* order, int) {
    PyObject* answer = PyObject_CallFunction(compatible, "OnO", axes, dimensions, order);
    int yes = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return yes;
}

bool add(PyObject* to, const char* name, void (*function)(), const char* signature) {
    PyObject* capsule = PyCapsule_New((void*)function, signature, nullptr);
    bool added = capsule && !PyDict_SetItemString(to, name, capsule);
    Py_XDECREF(capsule);
    return added;
}

}  // namespace

// Takes the three functions; returns what is to be the module's __pyx_capi__. Called with Python's lock in hand.
GPUNN_API PyObject* gpunn_cub_calls(PyObject* reduction_, PyObject* scan_, PyObject* compatible_) {
    reduction = Py_NewRef(reduction_);
    scan = Py_NewRef(scan_);
    compatible = Py_NewRef(compatible_);
    PyObject* calls = PyDict_New();
    typedef void (*Function)();
    if (calls &&
        add(calls, "cub_reduction", (Function)call_reduction,
            "PyObject *(struct __pyx_obj_4cupy_5_core_4core__ndarray_base *, PyObject *, int __pyx_skip_dispatch, "
            "struct __pyx_opt_args_4cupy_4cuda_3cub_cub_reduction *__pyx_optional_args)") &&
        add(calls, "cub_scan", (Function)call_scan,
            "PyObject *(struct __pyx_obj_4cupy_5_core_4core__ndarray_base *, PyObject *, int __pyx_skip_dispatch)") &&
        add(calls, "_cub_device_segmented_reduce_axis_compatible", (Function)call_compatible,
            "int (PyObject *, Py_ssize_t, PyObject *, int __pyx_skip_dispatch)"))
        return calls;
    Py_XDECREF(calls);
    return nullptr;
}
