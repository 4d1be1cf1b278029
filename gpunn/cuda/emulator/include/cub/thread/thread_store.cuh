// Goes ahead of CUB's own header, which names std::is_pointer in CUDA 12, and does not have it.
#pragma once
#include <cuda/std/type_traits>
namespace std {
using ::cuda::std::is_pointer;
}
#include_next <cub/thread/thread_store.cuh>
