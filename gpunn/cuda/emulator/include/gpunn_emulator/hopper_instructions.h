// Instructions of sm_90: mbarriers, copies of boxes, products of warpgroups. See ../../runtime/hopper.cpp.
#pragma once

namespace gpunn_emulator {
namespace ptx {

// What calls at the end of a kernel must come back, or a report would name no line of it.
__forceinline__ void cluster_arrive(bool releases) {
    gpunn_emulator::cluster_arrive(releases);
    asm volatile("");
}
__forceinline__ void cluster_wait() {
    gpunn_emulator::cluster_wait();
    asm volatile("");
}

// Shared memory of the cluster: addresses of 32 bits, and generic ones.
inline u32 mapa_shared(char* address, u32 rank) { return cluster_address(cluster_map(address, rank)); }
inline u64 mapa(u64 address, u32 rank) { return (u64)cluster_map((const void*)address, rank); }
inline u32 getctarank(u64 address) { return cluster_rank_of((const void*)address); }
template <class T> __forceinline__ void st_async(char* shared, T value, char* barrier) {
    async_store(shared, &value, sizeof value, barrier);
}

// Tells a mask of blocks from none.
const unsigned every_block = 1u << 31;
__forceinline__ void bulk_multicast(char* shared, const char* global, u32 bytes, char* barrier, u16 blocks) {
    bulk_load(shared, global, bytes, barrier, blocks | every_block);
}

template <bool drops> __forceinline__ b64 mbarrier_arrive(char* barrier, u32 count, s64 bytes) {
    return gpunn_emulator::mbarrier_arrive(barrier, {count, bytes, drops});
}

template <unsigned rank>
__forceinline__ void tensor_load(char* shared, const char* map, List<s32, rank> at, char* barrier) {
    gpunn_emulator::tensor_load(shared, map, rank, at.elements, barrier, 0);
}
template <unsigned rank>
__forceinline__ void tensor_multicast(char* shared, const char* map, List<s32, rank> at, char* barrier, u16 blocks) {
    gpunn_emulator::tensor_load(shared, map, rank, at.elements, barrier, blocks | every_block);
}
template <unsigned rank> __forceinline__ void tensor_store(const char* map, List<s32, rank> at, const char* shared) {
    gpunn_emulator::tensor_store(map, rank, at.elements, shared);
}
template <unsigned rank> __forceinline__ void tensor_prefetch(const char*, List<s32, rank>) {}

inline void give_a(WarpgroupProduct& product, b64 matrix) { product.a_matrix = matrix; }
inline void give_a(WarpgroupProduct& product, const Vector<b32, 4>& registers) {
    product.a_in_registers = true;
    for (unsigned i = 0; i < 4; i++) product.a[i] = registers.elements[i];
}
#ifdef GPUNN_EMULATOR_COUNT
// Its name says what is counted: the numbers that a sum has in one instruction, and those of half a row of sums.
template <unsigned terms, unsigned count> void warpgroup_operation(void**, unsigned) {}
#endif
template <WarpgroupProduct::Type type, unsigned count, class A>
__forceinline__ WarpgroupProduct product_of(const List<float*, count>& d, const A& a, b64 b, bool scale_d, s32 scale_a,
                                            s32 scale_b) {
    WarpgroupProduct product{type};
    give_a(product, a);
    product.b_matrix = b;
    product.n = 2 * count;
    product.d = d.elements;
    product.scale_d = scale_d;
    product.negate_a = scale_a < 0;
    product.negate_b = scale_b < 0;
#ifdef GPUNN_EMULATOR_COUNT
    product.counted_as = warpgroup_operation<type == WarpgroupProduct::tf32 ? 8 : 16, count>;
#endif
    return product;
}
template <WarpgroupProduct::Type type, unsigned count, class A>
__forceinline__ void wgmma(List<float*, count> d, A a, b64 b, bool scale_d, s32 scale_a, s32 scale_b) {
    WarpgroupProduct product = product_of<type>(d, a, b, scale_d, scale_a, scale_b);
    warpgroup_product(product);
}
template <WarpgroupProduct::Type type, unsigned count>
__forceinline__ void wgmma(List<float*, count> d, Vector<b32, 4> a, b64 b, bool scale_d, s32 scale_a, s32 scale_b,
                           s32 transpose_b) {
    WarpgroupProduct product = product_of<type>(d, a, b, scale_d, scale_a, scale_b);
    product.transpose_b = transpose_b != 0;
    warpgroup_product(product);
}
template <WarpgroupProduct::Type type, unsigned count>
__forceinline__ void wgmma(List<float*, count> d, b64 a, b64 b, bool scale_d, s32 scale_a, s32 scale_b,
                           s32 transpose_a, s32 transpose_b) {
    WarpgroupProduct product = product_of<type>(d, a, b, scale_d, scale_a, scale_b);
    product.transpose_a = transpose_a != 0;
    product.transpose_b = transpose_b != 0;
    warpgroup_product(product);
}

}  // namespace ptx
}  // namespace gpunn_emulator
