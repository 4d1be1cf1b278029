// What the device says of itself, and the words for its errors.
#include "device.h"

namespace gpunn_device {

namespace {

const int KiB = 1024, MiB = 1024 * KiB;

const Card cards[] = {
    {75, 40, 1024, 64 * KiB, 64 * KiB, 16, 4 * MiB},      // Tesla T4
    {80, 108, 2048, 164 * KiB, 163 * KiB, 32, 40 * MiB},  // A100
    {86, 84, 1536, 100 * KiB, 99 * KiB, 16, 6 * MiB},     // A40
    {89, 142, 1536, 100 * KiB, 99 * KiB, 24, 96 * MiB},   // L40
    {90, 132, 2048, 228 * KiB, 227 * KiB, 32, 50 * MiB},  // H100
    {100, 148, 2048, 228 * KiB, 227 * KiB, 32, 126 * MiB},  // B200
    {120, 170, 1536, 100 * KiB, 99 * KiB, 24, 96 * MiB},    // RTX 5090
};

struct Word {
    int number;
    const char *runtime, *driver, *text;
};

const Word words[] = {
    {success, "cudaSuccess", "CUDA_SUCCESS", "no error"},
    {invalid_value, "cudaErrorInvalidValue", "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {out_of_memory, "cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {initialization_error, "cudaErrorInitializationError", "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {no_device, "cudaErrorNoDevice", "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {invalid_device, "cudaErrorInvalidDevice", "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {invalid_image, "cudaErrorInvalidKernelImage", "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {no_binary, "cudaErrorNoKernelImageForDevice", "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device (the emulated device runs what its own NVRTC compiled)"},
    {unsupported_limit, "cudaErrorUnsupportedLimit", "CUDA_ERROR_UNSUPPORTED_LIMIT",
     "limit is not supported on this architecture"},
    {invalid_source, "cudaErrorInvalidSource", "CUDA_ERROR_INVALID_SOURCE", "device kernel image is invalid"},
    {file_not_found, "cudaErrorFileNotFound", "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {invalid_handle, "cudaErrorInvalidResourceHandle", "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {illegal_state, "cudaErrorIllegalState", "CUDA_ERROR_ILLEGAL_STATE",
     "the operation cannot be performed in the present state"},
    {not_found, "cudaErrorSymbolNotFound", "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {not_ready, "cudaErrorNotReady", "CUDA_ERROR_NOT_READY", "device not ready"},
    {illegal_address, "cudaErrorIllegalAddress", "CUDA_ERROR_ILLEGAL_ADDRESS",
     "an illegal memory access was encountered"},
    {out_of_resources, "cudaErrorLaunchOutOfResources", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {peer_already_enabled, "cudaErrorPeerAccessAlreadyEnabled", "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED",
     "peer access is already enabled"},
    {peer_not_enabled, "cudaErrorPeerAccessNotEnabled", "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED",
     "peer access has not been enabled"},
    {context_is_destroyed, "cudaErrorContextIsDestroyed", "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {assertion_failed, "cudaErrorAssert", "CUDA_ERROR_ASSERT", "device-side assert triggered"},
    {host_memory_registered, "cudaErrorHostMemoryAlreadyRegistered", "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
     "part or all of the requested memory range is already mapped"},
    {host_memory_not_registered, "cudaErrorHostMemoryNotRegistered", "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
     "pointer does not correspond to a registered memory region"},
    {misaligned_address, "cudaErrorMisalignedAddress", "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {launch_failure, "cudaErrorLaunchFailure", "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {cooperative_too_large, "cudaErrorCooperativeLaunchTooLarge", "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE",
     "too many blocks in cooperative launch"},
    {invalid_cluster_size, "cudaErrorInvalidClusterSize", "CUDA_ERROR_INVALID_CLUSTER_SIZE", "invalid cluster size"},
    {not_permitted, "cudaErrorNotPermitted", "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {not_supported, "cudaErrorNotSupported", "CUDA_ERROR_NOT_SUPPORTED",
     "operation not supported (by the emulated device)"},
    {capture_unsupported, "cudaErrorStreamCaptureUnsupported", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {capture_invalidated, "cudaErrorStreamCaptureInvalidated", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {capture_merge, "cudaErrorStreamCaptureMerge", "CUDA_ERROR_STREAM_CAPTURE_MERGE",
     "operation would result in a merge of separate capture sequences"},
    {capture_unmatched, "cudaErrorStreamCaptureUnmatched", "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
     "capture was not ended in the same stream as it began"},
    {capture_unjoined, "cudaErrorStreamCaptureUnjoined", "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
     "capturing stream has unjoined work"},
    {capture_isolation, "cudaErrorStreamCaptureIsolation", "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {capture_implicit, "cudaErrorStreamCaptureImplicit", "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {captured_event, "cudaErrorCapturedEvent", "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {capture_wrong_thread, "cudaErrorStreamCaptureWrongThread", "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

const Word& word(int number) {
    static const Word unknown{999, "cudaErrorUnknown", "CUDA_ERROR_UNKNOWN", "unknown error"};
    for (const Word& each : words)
        if (each.number == number) return each;
    return unknown;
}

// What the emulator said of the last launch that went wrong, behind the words of its error.
std::string report;

}  // namespace

bool is_of_launch(int error) { return error >= illegal_address && error <= launch_failure; }

const char* error_name(int error) { return word(error).runtime; }

const char* driver_error_name(int error) { return word(error).driver; }

void set_report(const std::string& text) {
    Lock lock;
    report = text;
}

const std::string& last_report() { return report; }

const char* error_text(int error) {
    thread_local std::string text;
    text = word(error).text;
    if (is_of_launch(error) || error == cooperative_too_large || error == invalid_cluster_size) {
        Lock lock;
        if (!report.empty()) text += ": " + report;
    }
    return text.c_str();
}

const Card& card() {
    for (const Card& each : cards)
        if (each.capability == settings.compute_capability) return each;
    return cards[4];
}

std::vector<int> capabilities() {
    std::vector<int> found;
    for (const Card& each : cards) found.push_back(each.capability);
    return found;
}

namespace {

const int last_attribute = 147;  // of CUDA 13

int attribute(int number, int device) {
    switch (number) {
        case 1: return 1024;                       // threads of a block
        case 2: case 3: return 1024;               // block x, y
        case 4: return 64;                         // block z
        case 5: return 0x7fffffff;                 // grid x
        case 6: case 7: return 65535;              // grid y, z
        case 8: return 48 * KiB;                   // shared memory of a block that asks for no more
        case 9: return 64 * KiB;                   // constant memory
        case 10: return 32;                        // warp
        case 11: return 0x7fffffff;                // pitch
        case 12: return 65536;                     // registers of a block
        case 13: return 1500000;                   // clock, kHz
        case 14: return 512;                       // alignment of textures
        case 15: return 1;                         // copies beside kernels
        case 16: return card().multiprocessors;
        case 19: return 1;                         // maps host memory
        // Textures: of one and two dimensions, of three, in layers.
        case 21: case 22: return 131072;
        case 23: return 65536;
        case 24: case 25: case 26: return 16384;
        case 27: case 28: return 32768;
        case 29: return 2048;
        case 30: return 512;                       // alignment of surfaces
        case 31: return 1;                         // kernels side by side
        case 33: return device + 1;                // bus
        case 36: return 1500000;                   // clock of the memory, kHz
        case 37: return 5120;                      // width of the memory bus, bits
        case 38: return card().l2_bytes;
        case 39: return card().threads_per_multiprocessor;
        case 40: return 3;                         // copy engines
        case 41: return 1;                         // unified addressing
        case 42: return 32768;                     // textures in layers
        case 43: return 2048;
        case 45: case 46: return 32768;            // textures to gather from
        case 47: case 48: case 49: return 16384;   // long textures of three dimensions are none longer here
        case 51: return 32;                        // alignment of the rows of textures
        case 52: case 53: return 32768;            // cubes
        case 54: return 2046;
        // Surfaces, in the order of textures.
        case 55: return 32768;
        case 56: return 131072;
        case 57: return 65536;
        case 58: case 59: case 60: return 16384;
        case 61: case 63: case 64: return 32768;
        case 62: case 65: return 2048;
        case 66: case 67: return 32768;
        case 68: return 2046;
        case 69: return 1 << 28;                   // linear memory as a texture
        case 70: return 131072;                    // rows of it
        case 71: return 65536;
        case 72: return 131072 * 16;
        case 75: return card().capability / 10;
        case 76: return card().capability % 10;
        case 78: return 1;                         // priorities of streams
        case 79: case 80: return 1;                // caches in L1
        case 81: return card().shared_per_multiprocessor;
        case 82: return 65536;                     // registers of a multiprocessor
        case 83: return 1;                         // managed memory
        case 95: return 1;                         // cooperative launches
        case 97: return card().shared_per_block;
        case 99: return 1;                         // registers host memory
        case 106: return card().blocks_per_multiprocessor;
        case 115: return 1;                        // memory pools
        default: return 0;
    }
}

}  // namespace

int attribute(int* value, int number, int device) {
    if (device < 0 || device >= settings.devices) return invalid_device;
    if (number < 1 || number > last_attribute) return invalid_value;
    *value = attribute(number, device);
    return success;
}

}  // namespace gpunn_device
