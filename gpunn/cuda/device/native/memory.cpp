// Allocations and copies. Nothing of the host's lies between allocations, and a large one is mapped by itself and ends at
// a page that must not be touched, as in check mode every one does: then neither a read past its end nor one after it was
// freed goes unnoticed. Small ones share a mapping otherwise, for a process may have some 65,000 mappings only.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "device.h"

namespace gpunn_device {

const std::size_t page = (std::size_t)sysconf(_SC_PAGESIZE);

namespace {

const std::size_t alignment = 512;
const int unwritten = 0xFF;  // NaN in every floating type: nobody may rely on zeros
const std::size_t most_filled = (std::size_t)256 << 20;  // pages that nobody touches take no memory

const std::size_t quarantine = (std::size_t)256 << 20;  // bytes of freed memory that stays mapped in check mode

const std::size_t host_memory = page * (std::size_t)sysconf(_SC_PHYS_PAGES);

std::map<char*, Block> blocks;
std::deque<Block> freed;
std::size_t freed_bytes = 0;
thread_local int current = 0;
thread_local bool bound = false;

const std::size_t smallest_mapped = (std::size_t)256 << 10, slab_bytes = (std::size_t)4 << 20;
std::map<std::size_t, std::vector<char*>> free_pieces;  // of slabs, by their sizes

std::size_t rounded(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

// Pieces have a power of two bytes.
std::size_t piece_bytes(std::size_t bytes) {
    std::size_t piece = alignment;
    while (piece < bytes) piece *= 2;
    return piece;
}

char* take_piece(std::size_t piece) {
    std::vector<char*>& pieces = free_pieces[piece];
    if (pieces.empty()) {
        void* slab = mmap(nullptr, slab_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (slab == MAP_FAILED) return nullptr;
        for (std::size_t at = slab_bytes; at; at -= piece) pieces.push_back((char*)slab + at - piece);
    }
    char* taken = pieces.back();
    pieces.pop_back();
    return taken;
}

char* map_alone(std::size_t bytes, char** map, std::size_t* map_bytes) {
    std::size_t inside = rounded(bytes, page);
    *map_bytes = inside + page;
    void* mapped = mmap(nullptr, *map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    *map = (char*)mapped;
    if (mprotect(*map, inside, PROT_READ | PROT_WRITE)) {
        munmap(*map, *map_bytes);
        return nullptr;
    }
    return *map + inside - bytes;
}

bool on_device(const Block* block) { return block && (block->kind == Kind::device || block->kind == Kind::managed); }

// What the driver would refuse: memory that is not where the direction says, or an end outside its allocation.
int check_direction(const void* to, const void* from, std::size_t to_bytes, std::size_t from_bytes,
                    Direction direction) {
    Block *target = find_block(to), *source = find_block(from);
    bool to_device = on_device(target), from_device = on_device(source);
    auto managed = [](const Block* block) { return block && block->kind == Kind::managed; };
    bool needs_to = direction == Direction::host_to_device || direction == Direction::device_to_device;
    bool needs_from = direction == Direction::device_to_host || direction == Direction::device_to_device;
    if (direction != Direction::any) {
        if (needs_to != to_device && !managed(target)) return invalid_value;
        if (needs_from != from_device && !managed(source)) return invalid_value;
    }
    if (target && (char*)to + to_bytes > target->begin + target->bytes) return invalid_value;
    if (source && (char*)from + from_bytes > source->begin + source->bytes) return invalid_value;
    return success;
}

bool pageable(const void* address) { return !find_block(address); }

}  // namespace

Device& device(int number) {
    static std::vector<Device> devices = [] {
        std::vector<Device> made((std::size_t)settings.devices);
        for (std::size_t i = 0; i < made.size(); i++) {
            made[i].pool.device = (int)i;
            made[i].current_pool = &made[i].pool;
        }
        return made;
    }();
    return devices[(std::size_t)number];
}

int current_device() { return current; }

bool has_context() { return bound; }
void set_context(bool given) { bound = given; }

namespace {

// Pools take memory from the device in pieces of this size.
std::uint64_t pool_piece(std::uint64_t bytes) { return (bytes + (32u << 20) - 1) / (32u << 20) * (32u << 20); }

}  // namespace

void Pool::take(std::uint64_t bytes) {
    used += bytes;
    used_high = std::max(used_high, used);
    reserved = std::max(reserved, pool_piece(used));
    reserved_high = std::max(reserved_high, reserved);
}

void Pool::give_back(std::uint64_t keep) { reserved = std::min(reserved, pool_piece(std::max(used, keep))); }

int set_device(int number) {
    note_use();
    if (number < 0 || number >= settings.devices) return invalid_device;
    current = number;
    bound = true;
    return success;
}

Block* find_block(const void* address) {
    auto after = blocks.upper_bound((char*)address);
    if (after == blocks.begin()) return nullptr;
    Block& block = (--after)->second;
    return (char*)address < block.begin + block.bytes ? &block : nullptr;
}

std::map<char*, Block>& all_blocks() { return blocks; }

const std::deque<Block>& freed_blocks() { return freed; }

int allocate(void** out, std::size_t bytes, Kind kind, Pool* pool) {
    *out = nullptr;
    if (!bytes) return success;
    int on = pool ? pool->device : current;
    Device& owner = device(on);
    bool counts = kind != Kind::host;
    if (bytes > (counts ? settings.memory - owner.used : host_memory)) return out_of_memory;
    char *map = nullptr, *begin;
    std::size_t map_bytes = 0;
    if (bytes < smallest_mapped && !settings.check) begin = take_piece(piece_bytes(bytes));
    else begin = map_alone(rounded(bytes, alignment), &map, &map_bytes);
    if (!begin) return out_of_memory;
    std::memset(begin, unwritten, std::min(bytes, most_filled));
    Block& block = blocks[begin] = Block{begin, bytes, kind, on, false, false, pool, map, map_bytes};
    if (settings.check && kind == Kind::device)
        block.written.reset((unsigned char*)std::calloc(bytes / 8 + 1, 1), std::free);
    if (counts) owner.used += bytes;
    if (pool) pool->take(bytes);
    *out = begin;
    return success;
}

int release(void* memory, Kind kind) {
    if (!memory) return success;
    auto found = blocks.find((char*)memory);
    if (found == blocks.end() || found->second.registered) return invalid_value;
    const Block& block = found->second;
    if ((block.kind == Kind::host) != (kind == Kind::host)) return invalid_value;
    if (block.kind != Kind::host) device(block.device).used -= block.bytes;
    if (block.pool) block.pool->used -= block.bytes;
    if (settings.check) {
        mprotect(block.map, block.map_bytes, PROT_NONE);
        freed.push_back(block);
        for (freed_bytes += block.map_bytes; freed_bytes > quarantine; freed.pop_front()) {
            freed_bytes -= freed.front().map_bytes;
            munmap(freed.front().map, freed.front().map_bytes);
        }
    } else if (block.map) {
        munmap(block.map, block.map_bytes);
    } else {
        free_pieces[piece_bytes(block.bytes)].push_back(block.begin);
    }
    blocks.erase(found);
    return success;
}

int register_host(void* memory, std::size_t bytes) {
    if (!memory || !bytes) return invalid_value;
    auto next = blocks.lower_bound((char*)memory);
    if (find_block(memory) || (next != blocks.end() && next->first < (char*)memory + bytes))
        return host_memory_registered;
    Block block{(char*)memory, bytes, Kind::host, current};
    block.registered = true;
    blocks[block.begin] = block;
    return success;
}

void adopt(void* memory, std::size_t bytes) {
    Block block{(char*)memory, bytes, Kind::device, current};
    block.registered = true;
    blocks[block.begin] = block;
}

int unregister_host(void* memory) {
    auto found = blocks.find((char*)memory);
    if (found == blocks.end() || !found->second.registered) return host_memory_not_registered;
    blocks.erase(found);
    return success;
}

int copy(void* to, const void* from, std::size_t bytes, Direction direction, std::intptr_t stream, bool asynchronous) {
    return copy_rows(to, bytes, from, bytes, bytes, 1, direction, stream, asynchronous);
}

int copy_rows(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
              std::size_t height, Direction direction, std::intptr_t stream, bool asynchronous) {
    if (!width || !height) return success;
    if (width > to_pitch || width > from_pitch) return invalid_value;
    const Rows from_rows{width, height, from_pitch}, to_rows{width, height, to_pitch};
    const std::size_t from_bytes = from_rows.extent();
    if (int error = check_direction(to, from, to_rows.extent(), from_bytes, direction)) return error;
    if (!asynchronous)
        if (int error = unsafe_in_capture()) return error;
    Stream* on = stream_of(stream);
    if (!on) return invalid_handle;
    bool guarded = settings.check && settings.late && asynchronous && !on->graph;
    auto rows = [=](const char* source) {
        if (guarded) {
            unguard(from, from_rows, false);
            unguard(to, to_rows, true);
        }
        int error = touch(from, from_rows, false);
        if (int wrong = touch(to, to_rows, true)) error = wrong;
        for (std::size_t i = 0; i < height && !error; i++)
            std::memmove((char*)to + i * to_pitch, source + i * from_pitch, width);
        if (guarded) {
            guard_others(from, from_rows);
            guard_others(to, to_rows);
        }
        return error;
    };
    Block *target = find_block(to), *source = find_block(from);
    bool between = on_device(target) && on_device(source) && target->device != source->device;
    bool orders = between && on->legacy && !on->graph;
    int other = !orders ? 0 : source->device == on->device ? target->device : source->device;
    if (orders) order_between_devices(*on, other, true);
    if (pageable(from) && settings.late && !on->graph) {  // such memory is read before the call returns
        auto held = std::make_shared<std::vector<char>>((const char*)from, (const char*)from + from_bytes);
        if (int error = enqueue(stream, "memcpy", [=] { return rows(held->data()); })) return error;
    } else if (int error = enqueue(stream, "memcpy", [=] { return rows((const char*)from); })) {
        return error;
    }
    if (orders) order_between_devices(*on, other, false);
    if (on->graph || (asynchronous && !pageable(to))) {
        if (guarded) {
            guard(from, from_rows, false);
            guard(to, to_rows, true);
        }
        return success;
    }
    return stream_synchronize(stream);
}

int fill(void* memory, int value, std::size_t bytes, std::intptr_t stream, bool asynchronous) {
    if (!bytes) return success;
    Block* block = find_block(memory);
    if (!block || (char*)memory + bytes > block->begin + block->bytes) return invalid_value;
    if (!asynchronous)
        if (int error = unsafe_in_capture()) return error;
    return enqueue(stream, "memset", [=] {
        if (int error = touch(memory, {bytes}, true)) return error;
        std::memset(memory, value, bytes);
        return (int)success;
    });
}

}  // namespace gpunn_device
