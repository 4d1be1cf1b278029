// Cooperative groups: tiles, coalesced groups, and how groups are made.
#pragma once

namespace gpunn_emulator {

template <class T> struct can_be_shuffled {
    static_assert(__is_trivially_copyable(T), "groups exchange values of types that can be copied byte by byte");
    static_assert(sizeof(T) <= 32, "groups exchange values of up to 32 bytes");
    typedef T type;
};

template <class T> struct can_be_matched {
    static_assert(is_integer<T>::value || is_same<T, float>::value || is_same<T, double>::value,
                  "groups match integers, float and double");
    typedef T type;
};

template <class T> struct fits_large_tile {
    static_assert(sizeof(T) <= 8, "tiles of more than 32 threads exchange values of up to 8 bytes");
    typedef typename can_be_shuffled<T>::type type;
};

// `SIZE` neighbouring lanes of a warp.
template <unsigned SIZE> class warp_tile {
    __forceinline__ static unsigned first() { return current.thread->lane & ~(SIZE - 1); }

public:
    __forceinline__ static unsigned lane_mask() { return (SIZE == 32 ? ~0u : (1u << SIZE % 32) - 1) << first(); }

    __forceinline__ static void sync() { __syncwarp(lane_mask()); }
    __forceinline__ static unsigned thread_rank() { return current.thread->lane % SIZE; }
    static constexpr unsigned num_threads() { return SIZE; }
    static constexpr unsigned size() { return SIZE; }

    template <class T> __forceinline__ T shfl(T value, int rank) const {
        return from_lane<typename can_be_shuffled<T>::type>(lane_mask(), value, source_at(rank, SIZE));
    }
    template <class T> __forceinline__ T shfl_up(T value, unsigned delta) const {
        return from_lane<typename can_be_shuffled<T>::type>(lane_mask(), value, source_up(delta, SIZE), true);
    }
    template <class T> __forceinline__ T shfl_down(T value, unsigned delta) const {
        return from_lane<typename can_be_shuffled<T>::type>(lane_mask(), value, source_down(delta, SIZE), true);
    }
    template <class T> __forceinline__ T shfl_xor(T value, unsigned lanes) const {
        return from_lane<typename can_be_shuffled<T>::type>(lane_mask(), value, source_xor(lanes, SIZE));
    }
    __forceinline__ int any(int predicate) const { return __ballot_sync(lane_mask(), predicate) != 0; }
    __forceinline__ int all(int predicate) const { return __ballot_sync(lane_mask(), predicate) == lane_mask(); }
    __forceinline__ unsigned ballot(int predicate) const { return __ballot_sync(lane_mask(), predicate) >> first(); }
    template <class T> __forceinline__ unsigned match_any(T value) const {
        return __match_any_sync<typename can_be_matched<T>::type>(lane_mask(), value) >> first();
    }
    template <class T> __forceinline__ unsigned match_all(T value, int& all_same) const {
        return __match_all_sync<typename can_be_matched<T>::type>(lane_mask(), value, &all_same) >> first();
    }
};

// A tile of several warps.
template <unsigned SIZE> class large_tile {
public:
    __forceinline__ static unsigned thread_rank() {
        return cooperative_groups::thread_block::thread_rank() & (SIZE - 1);
    }
    static constexpr unsigned num_threads() { return SIZE; }
    static constexpr unsigned size() { return SIZE; }

    __forceinline__ void sync() const { tile_collective(SIZE, nullptr, nullptr); }
    template <class T> __forceinline__ T shfl(T value, unsigned rank) const {
        TileShuffle<typename fits_large_tile<T>::type> payload = {value, value, rank};
        tile_collective(SIZE, &payload, tile_shuffle_operation<T>);
        return payload.result;
    }
    __forceinline__ int any(int predicate) const { return vote(predicate).any; }
    __forceinline__ int all(int predicate) const { return vote(predicate).all; }

private:
    __forceinline__ static Vote vote(int predicate) {
        Vote payload = {0, 0, predicate};
        tile_collective(SIZE, &payload, tile_vote_operation);
        return payload;
    }
};

template <unsigned SIZE, bool LARGE> struct tile_of { typedef warp_tile<SIZE> type; };
template <unsigned SIZE> struct tile_of<SIZE, true> { typedef large_tile<SIZE> type; };

// What a tile has to remember that does not know its parent's type: its lanes are a thread_group too.
struct large_tile_place {
    unsigned meta_rank_, meta_size_;
    large_tile_place(unsigned, unsigned meta_rank, unsigned meta_size) : meta_rank_(meta_rank), meta_size_(meta_size) {}
};
template <bool LARGE> struct tile_place { typedef cooperative_groups::thread_group type; };
template <> struct tile_place<true> { typedef large_tile_place type; };

template <unsigned SIZE> __forceinline__ unsigned lanes_of(const warp_tile<SIZE>& tile) { return tile.lane_mask(); }
template <unsigned SIZE> unsigned lanes_of(const large_tile<SIZE>&) { return 0; }

}  // namespace gpunn_emulator

namespace cooperative_groups {

// --- tiles -----------------------------------------------------------------------------------------------

template <unsigned SIZE, class Parent = void>
class thread_block_tile : public ::gpunn_emulator::tile_of<SIZE, (SIZE > 32)>::type {
    static_assert(SIZE && SIZE <= 1024 && (SIZE & (SIZE - 1)) == 0, "a tile has 1, 2, 4, ... or 1024 threads");

public:
    __forceinline__ static unsigned meta_group_rank() { return Parent::thread_rank() / SIZE; }
    __forceinline__ static unsigned meta_group_size() { return (Parent::size() + SIZE - 1) / SIZE; }
    __forceinline__ operator thread_block_tile<SIZE, void>() const;

private:
    thread_block_tile() {}
    friend struct group_maker;
};

template <unsigned SIZE>
class thread_block_tile<SIZE, void> : public ::gpunn_emulator::tile_of<SIZE, (SIZE > 32)>::type,
                                      public ::gpunn_emulator::tile_place<(SIZE > 32)>::type {
    static_assert(SIZE && SIZE <= 1024 && (SIZE & (SIZE - 1)) == 0, "a tile has 1, 2, 4, ... or 1024 threads");
    typedef typename ::gpunn_emulator::tile_of<SIZE, (SIZE > 32)>::type Tile;
    typedef typename ::gpunn_emulator::tile_place<(SIZE > 32)>::type Place;

public:
    using Tile::num_threads;
    using Tile::size;
    using Tile::sync;
    using Tile::thread_rank;
    __forceinline__ unsigned meta_group_rank() const { return this->meta_rank_; }
    __forceinline__ unsigned meta_group_size() const { return this->meta_size_; }

private:
    thread_block_tile(unsigned meta_rank, unsigned meta_size)
        : Place(::gpunn_emulator::lanes_of(Tile()), meta_rank, meta_size) {}
    friend struct group_maker;
};

// --- coalesced groups ------------------------------------------------------------------------------------

class coalesced_group : public thread_group {
public:
    __forceinline__ void sync() const { __syncwarp(mask_); }
    __forceinline__ unsigned thread_rank() const { return ::gpunn_emulator::rank_among(mask_); }
    __forceinline__ unsigned num_threads() const { return (unsigned)__popc(mask_); }
    __forceinline__ unsigned size() const { return num_threads(); }
    __forceinline__ unsigned meta_group_rank() const { return meta_rank_; }
    __forceinline__ unsigned meta_group_size() const { return meta_size_; }

    template <class T> __forceinline__ T shfl(T value, int rank) const {
        return from_rank(value, mask_ == ~0u ? (unsigned)rank % 32 : (unsigned)rank);
    }
    template <class T> __forceinline__ T shfl_up(T value, int delta) const {
        unsigned rank = thread_rank();
        return from_rank(value, (unsigned)delta > rank ? rank : rank - (unsigned)delta);
    }
    template <class T> __forceinline__ T shfl_down(T value, unsigned delta) const {
        unsigned rank = thread_rank();
        return from_rank(value, delta >= size() - rank ? rank : rank + delta);
    }
    __forceinline__ int any(int predicate) const { return __ballot_sync(mask_, predicate) != 0; }
    __forceinline__ int all(int predicate) const { return __ballot_sync(mask_, predicate) == mask_; }
    __forceinline__ unsigned ballot(int predicate) const {
        return ::gpunn_emulator::by_rank(mask_, __ballot_sync(mask_, predicate));
    }
    template <class T> __forceinline__ unsigned match_any(T value) const {
        typedef typename ::gpunn_emulator::can_be_matched<T>::type Value;
        return ::gpunn_emulator::by_rank(mask_, __match_any_sync<Value>(mask_, value));
    }
    template <class T> __forceinline__ unsigned match_all(T value, int& all_same) const {
        typedef typename ::gpunn_emulator::can_be_matched<T>::type Value;
        return ::gpunn_emulator::by_rank(mask_, __match_all_sync<Value>(mask_, value, &all_same));
    }

private:
    coalesced_group(unsigned mask, unsigned meta_rank, unsigned meta_size) : thread_group(mask, meta_rank, meta_size) {}
    friend struct group_maker;

    template <class T> __forceinline__ T from_rank(T value, unsigned rank) const {
        typedef typename ::gpunn_emulator::can_be_shuffled<T>::type Value;
        return ::gpunn_emulator::from_lane<Value>(mask_, value, ::gpunn_emulator::lane_of_rank(mask_, rank));
    }
};

// --- how they are made -----------------------------------------------------------------------------------

template <unsigned SIZE, class Parent> struct can_be_tiled { static constexpr bool value = false; };
template <unsigned SIZE> struct can_be_tiled<SIZE, thread_block> { static constexpr bool value = true; };
template <unsigned SIZE, unsigned OUTER, class Parent> struct can_be_tiled<SIZE, thread_block_tile<OUTER, Parent>> {
    static_assert(SIZE < OUTER, "a tile must be smaller than the one it is a part of");
    static constexpr bool value = true;
};

// The only friend of the groups: kernels get them from the functions below.
struct group_maker {
    static thread_block block() { return thread_block(); }
    template <unsigned SIZE, class Parent> static thread_block_tile<SIZE, Parent> tile() {
        return thread_block_tile<SIZE, Parent>();
    }
    template <unsigned SIZE> static thread_block_tile<SIZE, void> tile(unsigned meta_rank, unsigned meta_size) {
        return thread_block_tile<SIZE, void>(meta_rank, meta_size);
    }
    static coalesced_group lanes(unsigned mask, unsigned meta_rank = 0, unsigned meta_size = 1) {
        return coalesced_group(mask, meta_rank, meta_size);
    }
    static unsigned mask(const thread_group& group) { return group.mask_; }

    // Of the lanes with neighbouring ranks. The last tile is smaller if `size` does not divide their number.
    __forceinline__ static coalesced_group tiles(const thread_group& parent, unsigned size) {
        if (!size || size > 32 || (size & (size - 1))) __trap();
        unsigned rank = (unsigned)parent.thread_rank(), threads = (unsigned)parent.size(), mask = 0;
        if (!parent.is_block_ && threads <= size) return lanes(parent.mask_, parent.meta_rank_, parent.meta_size_);
        if (parent.is_block_) {
            unsigned start = rank / size * size, count = threads - start < size ? threads - start : size;
            mask = (count == 32 ? ~0u : (1u << count) - 1) << start % 32;
        } else {
            for (unsigned i = rank / size * size; i < rank / size * size + size && i < threads; i++)
                mask |= 1u << ::gpunn_emulator::lane_of_rank(parent.mask_, i);
        }
        return lanes(mask, rank / size, (threads + size - 1) / size);
    }
};

template <unsigned SIZE, class Parent>
__forceinline__ thread_block_tile<SIZE, Parent>::operator thread_block_tile<SIZE, void>() const {
    return group_maker::tile<SIZE>(meta_group_rank(), meta_group_size());
}

__forceinline__ thread_block this_thread_block() { return group_maker::block(); }
template <unsigned MOST_THREADS> __forceinline__ thread_block this_thread_block(block_tile_memory<MOST_THREADS>&) {
    return group_maker::block();
}
__forceinline__ thread_block_tile<1> this_thread() { return group_maker::tile<1>(0, 1); }

// The line tells one place from another, as at barriers.
__forceinline__ coalesced_group coalesced_threads(int line = __builtin_LINE()) {
    return group_maker::lanes(::gpunn_emulator::active_mask(-line));
}

template <unsigned SIZE, class Parent> __forceinline__ thread_block_tile<SIZE, Parent> tiled_partition(const Parent&) {
    static_assert(can_be_tiled<SIZE, Parent>::value,
                  "tiled_partition<N> takes a thread_block or a thread_block_tile; tiled_partition(group, N) takes others");
    return group_maker::tile<SIZE, Parent>();
}
__forceinline__ thread_group tiled_partition(const thread_group& parent, unsigned size) {
    return group_maker::tiles(parent, size);
}
__forceinline__ coalesced_group tiled_partition(const coalesced_group& parent, unsigned size) {
    return group_maker::tiles(parent, size);
}

// --- functions of every group ----------------------------------------------------------------------------

template <class Group> __forceinline__ void sync(const Group& group) { group.sync(); }
__forceinline__ void sync(const thread_block&, int line = __builtin_LINE()) { thread_block::sync(line); }
__forceinline__ void sync(const thread_group& group, int line = __builtin_LINE()) { group.sync(line); }
template <class Group> __forceinline__ auto thread_rank(const Group& group) -> decltype(group.thread_rank()) {
    return group.thread_rank();
}
template <class Group> __forceinline__ auto group_size(const Group& group) -> decltype(group.num_threads()) {
    return group.num_threads();
}

}  // namespace cooperative_groups
