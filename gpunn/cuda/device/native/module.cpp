#include "module.h"

#include <Python.h>
#include <dlfcn.h>
#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "../../emulator/runtime/launch.h"
#include "texture.h"

namespace gpunn_device {

namespace emulator = gpunn_emulator;

struct Parameter {
    unsigned bytes, offset;
};

struct Function {
    Module* module;
    std::string name;
    void (*entry)(const char*);
    std::vector<Parameter> parameters;
    unsigned bytes = 0, alignment = 1;  // of all arguments
    emulator::Library library{};
    int static_shared = 0;  // known where it is the only kernel of its module
    int largest_dynamic = 0;
    const unsigned* cluster = nullptr;  // its __cluster_dims__
};

struct Module {
    void* library;
    std::string path;
    std::map<std::string, int> kernels;
    std::map<std::string, Function> functions;
    struct Variable {
        std::size_t offset, bytes;
    };
    std::map<std::string, Variable> variables, shared;
    bool any_threads = false;  // its kernels compute the same with any number of threads (compiler.py)
};

namespace {

std::set<Module*> modules;
std::set<Function*> functions;

// The emulator, as gpunn.cuda.emulator.build has loaded it, and what Python does for the device.
int (*emulator_launch)(const emulator::Request*, void**);
int (*emulator_resume)(void**);
void (*emulator_report)(void*, int, emulator::Report*);
void (*emulator_end)(void*);
int (*emulator_find_library)(const void*, emulator::Library*);
void (*tell)(const char* kernel, const char* library, const emulator::Library*, const emulator::Report*, int count);
std::string folder;  // for the libraries of this process

const int default_shared = 48 * 1024;

// The variables of a library, by the symbols in its file: those of kernels are hidden from the loader.
void read_variables(Module& module, const char* image, std::size_t bytes) {
    auto* header = (const Elf64_Ehdr*)image;
    auto* sections = (const Elf64_Shdr*)(image + header->e_shoff);
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB || sections[i].sh_link >= header->e_shnum) continue;
        const Elf64_Shdr& names = sections[sections[i].sh_link];
        if (sections[i].sh_offset + sections[i].sh_size > bytes || names.sh_offset + names.sh_size > bytes) continue;
        auto* symbols = (const Elf64_Sym*)(image + sections[i].sh_offset);
        for (std::size_t s = 0; s < sections[i].sh_size / sizeof *symbols; s++) {
            if (symbols[s].st_name >= names.sh_size) continue;
            const char* name = image + names.sh_offset + symbols[s].st_name;
            Module::Variable variable{symbols[s].st_value, symbols[s].st_size};
            if (ELF64_ST_TYPE(symbols[s].st_info) == STT_OBJECT) module.variables[name] = variable;
            if (ELF64_ST_TYPE(symbols[s].st_info) == STT_TLS) module.shared[name] = variable;
        }
    }
}

// Of the variables alone: in check mode there is room between them.
std::size_t shared_bytes(const Module& module) {
    std::size_t bytes = 0;
    for (const auto& [name, variable] : module.shared) bytes += variable.bytes;
    return bytes;
}

// What CUDA calls the first mistake that the emulator reported. In check mode the device goes on: nothing was spoilt.
int error_of(const emulator::Report& report) {
    switch ((emulator::Kind)report.kind) {
        case emulator::Kind::out_of_bounds:
        case emulator::Kind::fault: return illegal_address;
        case emulator::Kind::misaligned: return misaligned_address;
        case emulator::Kind::assertion: return assertion_failed;
        case emulator::Kind::resources: return out_of_resources;
        default: return launch_failure;
    }
}

struct Raised {
    PyObject *type, *value, *traceback;
};

int raise_again(void* kept) {
    auto* raised = (Raised*)kept;
    PyErr_Restore(raised->type, raised->value, raised->traceback);
    delete raised;
    return -1;
}

// Faults of CuPy's own kernels that do no harm, and that no program can mend.
struct Overlooked {
    const char* kernel;  // how its name begins
    emulator::Kind kind;
    const char* where;  // part of the message
};

const char shared[] = " shared memory ";  // what the program gave the kernel is not

const Overlooked overlooked_kernels[] = {
    // The last block adds up what lies past its last element too, and throws that away.
    {"cupy_inclusive_batch_scan_kernel", emulator::Kind::uninitialised, shared},
    // The smallest of complex64, as below: CUB's storage.
    {"cupy_cub_", emulator::Kind::uninitialised, shared},
    // The lanes of a warp write where others have read, after a shuffle of what those read: it waits for them, though
    // CUDA does not say so.
    {"cupy_nonzero_kernel_incomplete_scan", emulator::Kind::race, shared},
    // Pixels that touch become one tree by atomicCAS: who reads an old parent only has farther to go.
    {"cupyx_scipy_ndimage_label_", emulator::Kind::race, ""},
};

// As above, by part of the name of a shared variable that is read before it is written.
const char* const overlooked_variables[] = {
    // Of CuPy's reductions, also fused and a program's own. Each thread writes its whole element, which may be a
    // complex64, an int and padding: the checker cannot tell that from a float4.
    "_sdata_raw",
    // Whether the constructor of another one has run, which C++ asks and a GPU does not.
    "_ZGVZ",
};

bool is_overlooked(const Function& function, const emulator::Report& report) {
    if (report.harmless) return true;
    for (const Overlooked& each : overlooked_kernels)
        if (!function.name.rfind(each.kernel, 0) && report.kind == (int)each.kind &&
            std::strstr(report.message, each.where))
            return true;
    if (report.kind != (int)emulator::Kind::uninitialised || !std::strstr(report.message, " static shared memory "))
        return false;
    for (const auto& [name, variable] : function.module->shared) {
        bool inside = (std::size_t)report.byte - variable.offset < variable.bytes;
        for (const char* each : overlooked_variables)
            if (inside && name.find(each) != std::string::npos) return true;
    }
    return false;
}

// A launch that lasts comes back now and then, for Python's signal handlers. What one of them raises ends the launch,
// and is raised again where Python next looks: no call of the API can carry it.
bool interrupted() {
    PyGILState_STATE held = PyGILState_Ensure();
    bool ended = PyErr_CheckSignals() != 0;
    if (ended) {
        auto* raised = new Raised;
        PyErr_Fetch(&raised->type, &raised->value, &raised->traceback);
        if (Py_AddPendingCall(raise_again, raised)) {  // Python keeps only so many
            raise_again(raised);
            PyErr_WriteUnraisable(nullptr);
        }
    }
    PyGILState_Release(held);
    return ended;
}

// What a kernel may touch in check mode: every allocation that its device can reach, and some that it must not.
std::vector<emulator::Buffer> allocations(const Function& function, int here, const std::vector<char>& arguments) {
    std::vector<emulator::Buffer> found;
    auto position = [&](const Block& block) {
        for (std::size_t i = 0; i < function.parameters.size(); i++) {
            char* pointer;
            if (function.parameters[i].bytes != sizeof pointer) continue;
            std::memcpy(&pointer, arguments.data() + function.parameters[i].offset, sizeof pointer);
            if (pointer >= block.begin && pointer < block.begin + block.bytes) return (int)i;
        }
        return -1;
    };
    for (auto& [begin, block] : all_blocks()) {
        bool near = block.kind != Kind::device || block.device == here || device(here).peers.count(block.device);
        auto access = near ? emulator::Access::write : emulator::Access::of_another_device;
        found.push_back({begin, block.bytes, position(block), (int)access, block.written.get(), nullptr});
    }
    for (const Block& block : freed_blocks())
        found.push_back({block.begin, block.bytes, position(block), (int)emulator::Access::freed, nullptr, nullptr});
    return found;
}

// Compares what the kernel touched with what other streams did there.
int touches_of(const std::vector<emulator::Buffer>& buffers) {
    int error = success;
    for (const emulator::Buffer& buffer : buffers) {
        Block* block = find_block(buffer.memory);
        if (!block) continue;
        auto spans = [](const std::vector<emulator::Span>& found) {
            Spans same;
            for (const emulator::Span& span : found) same.push_back({span.begin, span.end});
            return same;
        };
        if (int wrong = touch(*block, spans(buffer.touched->read), false)) error = wrong;
        if (int wrong = touch(*block, spans(buffer.touched->wrote), true)) error = wrong;
    }
    return error;
}

int run(Function* function, int on, const unsigned grid[3], const unsigned block[3], unsigned dynamic_shared,
        const std::vector<char>& arguments, bool cooperative) {
    emulator::Request request{};
    // Where their types may lie: host code moves a struct of 64 bytes' alignment as one.
    std::vector<char> room(arguments.size() + function->alignment);
    char* aligned = room.data() + (0 - (std::uintptr_t)room.data()) % function->alignment;
    std::copy(arguments.begin(), arguments.end(), aligned);
    request.entry = function->entry;
    request.arguments = aligned;
    std::memcpy(request.grid, grid, sizeof request.grid);
    std::memcpy(request.block, block, sizeof request.block);
    request.dynamic_shared_bytes = dynamic_shared;
    request.library = &function->library;
    request.handles_signals = getpid() == gettid();
    request.textures = textures();
    int threads = (int)(block[0] * block[1] * block[2]);
    request.blocks_at_once = (std::uint64_t)blocks_of(function, threads, dynamic_shared) * card().multiprocessors;
    request.cooperative = cooperative;
    if (function->cluster) std::memcpy(request.cluster, function->cluster, sizeof request.cluster);
    std::vector<emulator::Buffer> buffers;
    std::vector<emulator::Touched> touched;
    if (settings.check) {
        buffers = allocations(*function, on, arguments);
        touched.resize(buffers.size());
        for (std::size_t i = 0; i < buffers.size(); i++) buffers[i].touched = &touched[i];
        request.buffers = buffers.data();
        request.buffer_count = (int)buffers.size();
    }
    void* launched = nullptr;
    int count = emulator_launch(&request, &launched);
    bool given_up = false;
    while (count == (int)emulator::Outcome::suspended && !(given_up = interrupted())) count = emulator_resume(&launched);
    std::vector<emulator::Report> reports(given_up || count < 0 ? 0 : (std::size_t)count);
    for (std::size_t i = 0; i < reports.size(); i++) emulator_report(launched, (int)i, &reports[i]);
    emulator_end(launched);
    auto overlooked = [&](const emulator::Report& report) { return is_overlooked(*function, report); };
    reports.erase(std::remove_if(reports.begin(), reports.end(), overlooked), reports.end());
    if (given_up) return success;
    int unordered = settings.check ? touches_of(buffers) : success;
    if (count < 0) return count == (int)emulator::Outcome::no_memory ? out_of_resources : not_permitted;
    if (reports.empty()) return unordered;
    tell(function->name.c_str(), function->module->path.c_str(), &function->library, reports.data(),
         (int)reports.size());
    int error = error_of(reports[0]);
    if (!settings.check && error != out_of_resources) break_device(error);
    return error;
}

}  // namespace

int module_load(const void* image, std::size_t bytes, Module** out) {
    auto* header = (const Elf64_Ehdr*)image;
    if (std::memcmp(header->e_ident, ELFMAG, SELFMAG)) return invalid_image;
#ifdef __x86_64__
    if (header->e_machine != EM_X86_64) return no_binary;
#else
    if (header->e_machine != EM_AARCH64) return no_binary;
#endif
    if (!bytes) bytes = header->e_shoff + (std::size_t)header->e_shnum * header->e_shentsize;
    static int number = 0;
    std::string path = folder + "/module-" + std::to_string(getpid()) + "-" + std::to_string(number++) + ".so";
    std::FILE* file = std::fopen(path.c_str(), "wbx");
    bool written = file && std::fwrite(image, 1, bytes, file) == bytes;
    if (file && std::fclose(file)) written = false;
    void* library = written ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    auto* names = library ? (const char**)dlsym(library, "gpunn_kernel_names") : nullptr;
    if (!names) return invalid_image;
    auto* module = new Module{library, path, {}, {}, {}};
    module->any_threads = dlsym(library, "gpunn_any_threads") != nullptr;
    std::string rest = *names;
    for (int i = 0; !rest.empty(); i++) {
        std::size_t end = std::min(rest.find('\n'), rest.size());
        module->kernels[rest.substr(0, end)] = i;
        rest.erase(0, end + 1);
    }
    read_variables(*module, (const char*)image, bytes);
    if (module->kernels.size() == 1 && shared_bytes(*module) > (std::size_t)default_shared) {
        set_report(module->kernels.begin()->first + ": " + std::to_string(shared_bytes(*module)) +
                   " bytes of static shared memory, of which a block may have " + std::to_string(default_shared));
        delete module;
        return out_of_resources;
    }
    modules.insert(module);
    *out = module;
    return success;
}

// The library stays: kernels that wait in streams and graphs name it.
int module_unload(Module* module) { return modules.count(module) ? success : invalid_handle; }

int module_function(Module* module, const char* name, Function** out) {
    if (!modules.count(module)) return invalid_handle;
    auto known = module->functions.find(name);
    if (known != module->functions.end()) return *out = &known->second, success;
    auto kernel = module->kernels.find(name);
    if (kernel == module->kernels.end()) return not_found;
    std::string number = std::to_string(kernel->second);
    Function function{};
    function.module = module;
    function.name = name;
    function.entry = (void (*)(const char*))dlsym(module->library, ("gpunn_call_" + number).c_str());
    auto describe = (int (*)(char*, int))dlsym(module->library, ("gpunn_describe_" + number).c_str());
    auto cluster = (const unsigned* (*)())dlsym(module->library, ("gpunn_cluster_" + number).c_str());
    if (cluster) function.cluster = cluster();
    std::string text(8192, '\0');
    while (describe(text.data(), (int)text.size()) >= (int)text.size()) text.resize(2 * text.size());
    char passing, kind;
    unsigned bytes, offset, alignment;
    int used;
    for (const char* at = text.c_str();
         std::sscanf(at, " %c%c,%u,%u,%u%n", &passing, &kind, &bytes, &offset, &alignment, &used) == 5; at += used) {
        bool pointer = passing == 'p' || passing == 'P';
        function.parameters.push_back({pointer ? 8 : bytes, offset});
        function.bytes = offset + function.parameters.back().bytes;
        function.alignment = std::max(function.alignment, alignment);
    }
    emulator_find_library((const void*)function.entry, &function.library);
    if (module->kernels.size() == 1) function.static_shared = (int)shared_bytes(*module);
    function.largest_dynamic = std::max(0, default_shared - function.static_shared);
    *out = &(module->functions[name] = function);
    functions.insert(*out);
    return success;
}

int module_global(Module* module, const char* name, void** out, std::size_t* bytes) {
    if (!modules.count(module)) return invalid_handle;
    auto found = module->variables.find(name);
    if (found == module->variables.end()) return not_found;
    Dl_info info;
    dladdr(dlsym(module->library, "gpunn_kernel_names"), &info);
    *out = (char*)info.dli_fbase + found->second.offset;
    *bytes = found->second.bytes;
    adopt(*out, *bytes);
    return success;
}

int function_attribute(Function* function, int attribute, int* value) {
    if (!functions.count(function)) return invalid_handle;
    switch (attribute) {
        case 0: *value = 1024; break;                                 // threads of a block
        case 1: *value = (int)function->library.shared_bytes; break;  // static shared memory
        case 4: *value = 32; break;                                   // registers: those of a GPU are not known
        case 5: case 6: *value = settings.compute_capability; break;  // of the PTX, of the binary
        case 8: *value = function->largest_dynamic; break;
        case 9: *value = -1; break;  // carveout: the default
        default: *value = 0;
    }
    return success;
}

int function_set_attribute(Function* function, int attribute, int value) {
    if (!functions.count(function)) return invalid_handle;
    if (attribute == 9) return value >= -1 && value <= 100 ? success : invalid_value;
    if (attribute != 8) return invalid_value;
    if (value < 0 || value > card().shared_per_block - function->static_shared) return invalid_value;
    function->largest_dynamic = value;
    return success;
}

int blocks_of(Function* function, int threads, std::size_t dynamic_shared) {
    if (threads < 1 || threads > 1024) return 0;
    int whole_warps = (threads + 31) / 32 * 32;
    int blocks = std::min(card().blocks_per_multiprocessor, card().threads_per_multiprocessor / whole_warps);
    std::size_t shared = (std::size_t)function->static_shared + dynamic_shared;
    if (shared > (std::size_t)card().shared_per_block) return 0;
    shared += card().capability >= 80 ? 1024 : 0;  // which CUDA keeps for each block
    return shared ? std::min(blocks, card().shared_per_multiprocessor / (int)shared) : blocks;
}

int launch(Function* function, const unsigned grid[3], const unsigned block[3], unsigned dynamic_shared,
           std::intptr_t stream_handle, void** parameters, bool cooperative) {
    if (!functions.count(function)) return invalid_handle;
    const unsigned largest_grid[] = {0x7fffffff, 65535, 65535}, largest_block[] = {1024, 1024, 64};
    for (int i = 0; i < 3; i++)
        if (!grid[i] || grid[i] > largest_grid[i] || !block[i] || block[i] > largest_block[i]) return invalid_value;
    unsigned threads = block[0] * block[1] * block[2];
    if (threads > 1024 || dynamic_shared > (unsigned)function->largest_dynamic) return invalid_value;
    if (const unsigned* cluster = function->cluster) {
        std::string size = std::to_string(cluster[0]) + " x " + std::to_string(cluster[1]) + " x " + std::to_string(cluster[2]);
        const char* why = nullptr;
        if (!cluster[0] || !cluster[1] || !cluster[2] || cluster[0] * cluster[1] * cluster[2] > 8)
            why = " blocks, a cluster has 8 at most";
        else if (grid[0] % cluster[0] || grid[1] % cluster[1] || grid[2] % cluster[2])
            why = " blocks, which do not divide the grid";
        else if (cooperative) why = " blocks in a cooperative launch, which is not emulated";
        if (why) return set_report(function->name + ": clusters of " + size + why), invalid_cluster_size;
    }
    if (cooperative) {
        std::uint64_t blocks = (std::uint64_t)grid[0] * grid[1] * grid[2];
        int each = blocks_of(function, (int)threads, dynamic_shared), multiprocessors = card().multiprocessors;
        if (blocks > (std::uint64_t)each * multiprocessors) {
            set_report(function->name + ": " + std::to_string(blocks) + " blocks, of which the card has room for " +
                       std::to_string(each) + " on each of its " + std::to_string(multiprocessors) + " multiprocessors");
            return cooperative_too_large;
        }
    }
    Stream* stream = stream_of(stream_handle);
    if (!stream || stream->device != current_device()) return invalid_handle;
    if (!parameters && !function->parameters.empty()) return invalid_value;
    std::vector<char> arguments(function->bytes + 16);
    for (std::size_t i = 0; i < function->parameters.size(); i++)
        std::memcpy(arguments.data() + function->parameters[i].offset, parameters[i], function->parameters[i].bytes);
    std::vector<unsigned> sizes(grid, grid + 3);
    sizes.insert(sizes.end(), block, block + 3);
    if (function->module->any_threads && !settings.check) {
        const unsigned worth_two = 16384;  // elements, of which each thread was given one
        sizes = {grid[0] * threads < worth_two ? 1u : 2u, 1, 1, 1, 1, 1};
    }
    int on = stream->device;
    return enqueue(stream_handle, function->name.c_str(), [=, arguments = std::move(arguments)] {
        return run(function, on, sizes.data(), sizes.data() + 3, dynamic_shared, arguments, cooperative);
    });
}

}  // namespace gpunn_device

using namespace gpunn_device;

GPUNN_API void gpunn_device_connect(void* launch, void* resume, void* report, void* end, void* find, void* teller,
                                    const char* modules_folder) {
    emulator_launch = (int (*)(const emulator::Request*, void**))launch;
    emulator_resume = (int (*)(void**))resume;
    emulator_report = (void (*)(void*, int, emulator::Report*))report;
    emulator_end = (void (*)(void*))end;
    emulator_find_library = (int (*)(const void*, emulator::Library*))find;
    tell = (void (*)(const char*, const char*, const emulator::Library*, const emulator::Report*, int))teller;
    folder = modules_folder;
}

GPUNN_API void gpunn_device_set(int devices, std::size_t memory, int late, int check, int capability, int version) {
    settings.devices = devices;
    settings.memory = memory;
    settings.late = late;
    settings.check = check;
    settings.compute_capability = capability;
    settings.version = version;
}

GPUNN_API void gpunn_device_set_report(const char* text) { set_report(text); }

GPUNN_API void gpunn_device_break() {
    Lock lock;
    if (!settings.check) break_device(launch_failure);
}

// Does all that waits; what was wrong with it, or null.
GPUNN_API const char* gpunn_device_finish() {
    Lock lock;
    int error = run_all();
    if (!error) error = broken();
    return error ? error_text(error) : nullptr;
}
