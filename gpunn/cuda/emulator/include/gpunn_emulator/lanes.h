// Lanes of a warp by their rank among those of a mask, and what tiles of several warps do together.
#pragma once

namespace gpunn_emulator {

inline unsigned rank_among(unsigned mask) { return (unsigned)__popc(mask & ((1u << current.thread->lane) - 1)); }

// Where there is no lane of that rank, one that does not take part: what is taken from it is undefined.
inline unsigned lane_of_rank(unsigned mask, unsigned rank) {
    for (unsigned rest = mask; rest; rest &= rest - 1)
        if (!rank--) return (unsigned)__builtin_ctz(rest);
    return (unsigned)__builtin_ctz(~mask);
}

// One bit for each lane of the mask, by its rank: that of `lanes`.
inline unsigned by_rank(unsigned mask, unsigned lanes) {
    unsigned result = 0;
    for (unsigned rank = 0; mask; rank++, mask &= mask - 1) result |= (lanes >> __builtin_ctz(mask) & 1) << rank;
    return result;
}

// CUDA asks for the same `source` in all threads.
template <class T> struct TileShuffle {
    T value, result;
    unsigned source;
};

template <class T> GPUNN_UNWATCHED void tile_shuffle_operation(void** payloads, unsigned threads) {
    unsigned source = ((TileShuffle<T>*)payloads[0])->source;
    bool defined = source < threads;
    for (unsigned i = 0; i < threads; i++) defined &= ((TileShuffle<T>*)payloads[i])->source == source;
    for (unsigned i = 0; i < threads; i++) {
        TileShuffle<T>* shuffle = (TileShuffle<T>*)payloads[i];
        if (defined) shuffle->result = ((TileShuffle<T>*)payloads[source])->value;
        else __builtin_memset((void*)&shuffle->result, 0xff, sizeof(T));
    }
}

inline GPUNN_UNWATCHED void tile_vote_operation(void** payloads, unsigned threads) {
    unsigned yes = 0;
    for (unsigned i = 0; i < threads; i++) yes += ((Vote*)payloads[i])->count != 0;
    for (unsigned i = 0; i < threads; i++) *(Vote*)payloads[i] = Vote{yes != 0, yes == threads, (int)yes};
}

// The values of the last lanes of all warps.
template <class T, unsigned WARPS> struct WarpValues {
    T value, of_warp[WARPS];
};

template <class T, unsigned WARPS> GPUNN_UNWATCHED void warp_values_operation(void** payloads, unsigned threads) {
    typedef WarpValues<T, WARPS> Values;
    for (unsigned i = 0; i < threads; i++)
        for (unsigned w = 0; w < WARPS; w++)
            ((Values*)payloads[i])->of_warp[w] = ((Values*)payloads[32 * w + 31])->value;
}

template <unsigned WARPS, class T> __forceinline__ WarpValues<T, WARPS> values_of_warps(T value) {
    WarpValues<T, WARPS> payload = {value, {}};
    tile_collective(32 * WARPS, &payload, warp_values_operation<T, WARPS>);
    return payload;
}

}  // namespace gpunn_emulator
