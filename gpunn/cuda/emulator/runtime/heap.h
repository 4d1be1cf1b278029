// The memory that kernels get by malloc and new. It lives as long as the process: what one launch takes another may give
// back.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>

#include "launch.h"

namespace gpunn_emulator {

class Heap {
public:
    static constexpr std::size_t capacity = 8 << 20;  // CUDA's default

    struct Allocation {
        std::size_t bytes;
        bool live;  // else it was freed, and nothing has been put there since
    };

    // Null if there is no room.
    char* allocate(std::size_t bytes, std::size_t alignment);
    // Returns whether `memory` is the beginning of a live allocation.
    bool free(char* memory);

    char* begin() const { return begin_; }  // null as long as nobody has asked for memory
    bool holds(const char* address) const { return begin_ && address >= begin_ && address < begin_ + capacity; }
    // The last one that begins at the address or before it, or null; `begin` is where.
    const Allocation* at_or_before(const char* address, const char*& begin);
    unsigned char* written() { return written_; }  // a bit for each byte, in check mode

    std::mutex mutex;

private:
    char* find_room(char* from, std::size_t bytes, std::size_t alignment);
    bool map();

    char *begin_ = nullptr, *next_ = nullptr;  // the search for room begins where the last one ended
    unsigned char* written_ = nullptr;
    std::map<char*, Allocation> allocations_;
};

extern Heap heap;

}  // namespace gpunn_emulator
