// NVRTC's API. The compiler is a function of Python, which has the emulator's compiler make a library for the CPU.
#include <cstring>
#include <thread>

#include "device.h"

namespace {

enum Result {
    fine = 0,
    invalid_input = 3,
    program_invalid = 4,
    invalid_option = 5,
    does_not_compile = 6,
    no_expression = 10,
    internal_error = 11,
};

struct Program {
    std::string source, name;
    std::vector<std::string> header_names, header_texts;
    std::vector<std::string> expressions, lowered;
    std::string image, log;
};

std::set<Program*> programs;
std::mutex mutex;

bool is_program(Program* program) {
    std::lock_guard<std::mutex> lock(mutex);
    return programs.count(program);
}

std::string lines(const std::vector<std::string>& texts) {
    std::string all;
    for (const std::string& text : texts) all += text + "\n";
    return all;
}

// Headers travel as "length name length text ...".
std::string packed(const Program& program) {
    std::string all;
    for (std::size_t i = 0; i < program.header_names.size(); i++)
        for (const std::string* part : {&program.header_names[i], &program.header_texts[i]})
            all += std::to_string(part->size()) + "\n" + *part;
    return all;
}

typedef int (*Compile)(Program*, const char* source, const char* name, const char* options, const char* expressions,
                       const char* headers, std::size_t header_bytes);
Compile compile;

// What nvrtcGetPTX gives: it says what made it, for the image is no PTX.
const char ptx[] = "// Compiled for the emulated device by gpunn\n";

int give(const std::string& text, char* out) {
    std::memcpy(out, text.data(), text.size());
    return fine;
}

}  // namespace

GPUNN_API void gpunn_device_set_compiler(void* function) { compile = (Compile)function; }

GPUNN_API void gpunn_device_set_result(Program* program, const char* image, std::size_t bytes, const char* log) {
    program->image.assign(image, bytes);
    program->log = log;
}

GPUNN_API const char* nvrtcGetErrorString(int result) {
    switch (result) {
        case fine: return "NVRTC_SUCCESS";
        case 1: return "NVRTC_ERROR_OUT_OF_MEMORY";
        case invalid_input: return "NVRTC_ERROR_INVALID_INPUT";
        case program_invalid: return "NVRTC_ERROR_INVALID_PROGRAM";
        case invalid_option: return "NVRTC_ERROR_INVALID_OPTION";
        case does_not_compile: return "NVRTC_ERROR_COMPILATION";
        case no_expression: return "NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID";
        case internal_error: return "NVRTC_ERROR_INTERNAL_ERROR";
        default: return "NVRTC_ERROR unknown";
    }
}

GPUNN_API int nvrtcVersion(int* major, int* minor) {
    *major = gpunn_device::settings.version / 1000;
    *minor = gpunn_device::settings.version % 1000 / 10;
    return fine;
}

GPUNN_API int nvrtcGetNumSupportedArchs(int* count) {
    *count = (int)gpunn_device::capabilities().size();
    return fine;
}

GPUNN_API int nvrtcGetSupportedArchs(int* out) {
    for (int capability : gpunn_device::capabilities()) *out++ = capability;
    return fine;
}

GPUNN_API int nvrtcCreateProgram(Program** out, const char* source, const char* name, int count, const char** headers,
                                 const char** names) {
    Program* program = new Program;
    program->source = source;
    program->name = name && *name ? name : "default_program";
    for (int i = 0; i < count; i++) {
        program->header_names.push_back(names[i]);
        program->header_texts.push_back(headers[i]);
    }
    std::lock_guard<std::mutex> lock(mutex);
    programs.insert(program);
    *out = program;
    return fine;
}

GPUNN_API int nvrtcDestroyProgram(Program** program) {
    std::lock_guard<std::mutex> lock(mutex);
    if (!programs.erase(*program)) return program_invalid;
    delete *program;
    *program = nullptr;
    return fine;
}

GPUNN_API int nvrtcAddNameExpression(Program* program, const char* expression) {
    if (!is_program(program)) return program_invalid;
    program->expressions.push_back(expression);
    return fine;
}

GPUNN_API int nvrtcCompileProgram(Program* program, int count, const char** options) {
    if (!is_program(program)) return program_invalid;
    std::string headers = packed(*program);
    int result;
    // In a thread of its own, where Python runs no signal handlers: one that raises would leave the compiler half way.
    std::thread([&] {
        result = compile(program, program->source.c_str(), program->name.c_str(),
                         lines(std::vector<std::string>(options, options + count)).c_str(),
                         lines(program->expressions).c_str(), headers.data(), headers.size());
    }).join();
    return result;
}

GPUNN_API int nvrtcGetPTXSize(Program* program, std::size_t* bytes) {
    *bytes = sizeof ptx;
    return is_program(program) ? fine : program_invalid;
}

GPUNN_API int nvrtcGetPTX(Program* program, char* out) {
    std::memcpy(out, ptx, sizeof ptx);
    return is_program(program) ? fine : program_invalid;
}

GPUNN_API int nvrtcGetCUBINSize(Program* program, std::size_t* bytes) {
    if (!is_program(program)) return program_invalid;
    *bytes = program->image.size();
    return fine;
}

GPUNN_API int nvrtcGetCUBIN(Program* program, char* out) {
    return is_program(program) ? give(program->image, out) : (int)program_invalid;
}

// Code for the linker is not made.
GPUNN_API int nvrtcGetLTOIRSize(Program*, std::size_t*) { return invalid_input; }
GPUNN_API int nvrtcGetLTOIR(Program*, char*) { return invalid_input; }

GPUNN_API int nvrtcGetProgramLogSize(Program* program, std::size_t* bytes) {
    if (!is_program(program)) return program_invalid;
    *bytes = program->log.size() + 1;
    return fine;
}

GPUNN_API int nvrtcGetProgramLog(Program* program, char* out) {
    if (!is_program(program)) return program_invalid;
    std::memcpy(out, program->log.c_str(), program->log.size() + 1);
    return fine;
}

// Kernels go by their expression itself, with one blank for each gap, as the emulator's compiler names them.
GPUNN_API int nvrtcGetLoweredName(Program* program, const char* expression, const char** out) {
    if (!is_program(program)) return program_invalid;
    bool known = false;
    for (const std::string& each : program->expressions) known = known || each == expression;
    if (!known) return no_expression;
    std::string text;
    bool gap = false;
    for (const char* c = expression; *c; c++) {
        if (*c == ' ' || *c == '\t' || *c == '\n') {
            gap = true;
            continue;
        }
        if (gap && !text.empty()) text += ' ';
        gap = false;
        text += *c;
    }
    for (std::string& each : program->lowered)
        if (each == text) return *out = each.c_str(), fine;
    program->lowered.reserve(program->expressions.size());  // the names that were given out stay where they are
    program->lowered.push_back(text);
    *out = program->lowered.back().c_str();
    return fine;
}
