// What kernels/hopper.cuh has: mbarriers, bulk copies, tensor maps and products of warpgroups. There the functions are
// told.
#pragma once

struct __align__(64) CUtensorMap {
    unsigned long long opaque[16];
};

// --- mbarriers -------------------------------------------------------------------------------------------

__forceinline__ void mbarrier_init(unsigned long long* barrier, unsigned count) {
    gpunn_emulator::mbarrier_init(barrier, count);
}
__forceinline__ void mbarrier_inval(unsigned long long* barrier) { gpunn_emulator::mbarrier_inval(barrier); }
__forceinline__ unsigned long long mbarrier_arrive(unsigned long long* barrier, unsigned count = 1) {
    return gpunn_emulator::mbarrier_arrive(barrier, {count, 0, false});
}
__forceinline__ unsigned long long mbarrier_arrive_expect_tx(unsigned long long* barrier, unsigned bytes) {
    return gpunn_emulator::mbarrier_arrive(barrier, {1, (long long)bytes, false});
}
__forceinline__ unsigned long long mbarrier_arrive_drop(unsigned long long* barrier, unsigned count = 1) {
    return gpunn_emulator::mbarrier_arrive(barrier, {count, 0, true});
}
__forceinline__ void mbarrier_expect_tx(unsigned long long* barrier, unsigned bytes) {
    gpunn_emulator::mbarrier_arrive(barrier, {0, (long long)bytes, false});
}
__forceinline__ void mbarrier_complete_tx(unsigned long long* barrier, unsigned bytes) {
    gpunn_emulator::mbarrier_arrive(barrier, {0, -(long long)bytes, false});
}
__forceinline__ bool mbarrier_test_wait(unsigned long long* barrier, unsigned long long state) {
    return gpunn_emulator::mbarrier_wait(barrier, state, false);
}
__forceinline__ bool mbarrier_test_wait_parity(unsigned long long* barrier, unsigned parity) {
    return gpunn_emulator::mbarrier_wait(barrier, parity, true);
}
__forceinline__ bool mbarrier_try_wait(unsigned long long* barrier, unsigned long long state) {
    return gpunn_emulator::mbarrier_wait(barrier, state, false);
}
__forceinline__ bool mbarrier_try_wait_parity(unsigned long long* barrier, unsigned parity) {
    return gpunn_emulator::mbarrier_wait(barrier, parity, true);
}
__forceinline__ void mbarrier_wait_parity(unsigned long long* barrier, unsigned parity) {
    while (!gpunn_emulator::mbarrier_wait(barrier, parity, true)) {
    }
}
__forceinline__ void fence_mbarrier_init() { gpunn_emulator::fence_proxy(true); }
__forceinline__ void fence_proxy_async() { gpunn_emulator::fence_proxy(false); }

// --- bulk copies -----------------------------------------------------------------------------------------

__forceinline__ void bulk_load(void* shared, const void* global, unsigned bytes, unsigned long long* barrier) {
    gpunn_emulator::bulk_load(shared, global, bytes, barrier);
}
__forceinline__ void bulk_store(void* global, const void* shared, unsigned bytes) {
    gpunn_emulator::bulk_store(global, shared, bytes);
}
__forceinline__ void bulk_commit() { gpunn_emulator::bulk_commit(); }
template <int NEWEST>
__forceinline__ void bulk_wait() {
    gpunn_emulator::bulk_wait(NEWEST, false);
}
template <int NEWEST>
__forceinline__ void bulk_wait_read() {
    gpunn_emulator::bulk_wait(NEWEST, true);
}

template <int RANK>
__forceinline__ void tensor_load(void* shared, const CUtensorMap* map, const int (&coordinates)[RANK],
                                 unsigned long long* barrier) {
    static_assert(RANK >= 1 && RANK <= 5, "a tensor map has 1 to 5 dimensions");
    gpunn_emulator::tensor_load(shared, map, RANK, coordinates, barrier);
}
template <int RANK>
__forceinline__ void tensor_store(const CUtensorMap* map, const int (&coordinates)[RANK], const void* shared) {
    static_assert(RANK >= 1 && RANK <= 5, "a tensor map has 1 to 5 dimensions");
    gpunn_emulator::tensor_store(map, RANK, coordinates, shared);
}
__forceinline__ void tensor_prefetch(const CUtensorMap*) {}

// --- products of warpgroups ------------------------------------------------------------------------------

__forceinline__ void wgmma_fence() { gpunn_emulator::warpgroup_fence(); }
__forceinline__ void wgmma_commit() { gpunn_emulator::warpgroup_commit(); }
template <int NEWEST>
__forceinline__ void wgmma_wait() {
    gpunn_emulator::warpgroup_wait(NEWEST);
}
template <int REGISTERS>
__forceinline__ void setmaxnreg_inc() {}
template <int REGISTERS>
__forceinline__ void setmaxnreg_dec() {}

__forceinline__ unsigned long long wgmma_matrix(const void* shared, unsigned leading, unsigned stride, int swizzle,
                                                unsigned base_offset = 0) {
    unsigned long long mode = swizzle == 128 ? 1 : swizzle == 64 ? 2 : swizzle == 32 ? 3 : 0;
    return (unsigned long long)(gpunn_emulator::shared_address(shared) >> 4 & 0x3fff) |
           (unsigned long long)(leading >> 4 & 0x3fff) << 16 | (unsigned long long)(stride >> 4 & 0x3fff) << 32 |
           (unsigned long long)(base_offset & 7) << 49 | mode << 62;
}

namespace gpunn_emulator {

template <int N>
__forceinline__ void multiply_warpgroup(WarpgroupProduct product, float (&d)[N], int scale_d, int scale_a, int scale_b,
                                        int transpose_a, int transpose_b) {
    static_assert(N % 4 == 0 && N >= 4 && N <= 128, "wgmma has n from 8 to 256, in steps of 8");
    float* registers[N];
    for (int i = 0; i < N; i++) registers[i] = d + i;
    product.n = 2 * N;
    product.d = registers;
    product.scale_d = scale_d != 0;
    product.negate_a = scale_a < 0;
    product.negate_b = scale_b < 0;
    product.transpose_a = transpose_a != 0;
    product.transpose_b = transpose_b != 0;
    warpgroup_product(product);
}

}  // namespace gpunn_emulator

#define GPUNN_WGMMA(NAME, TYPE)                                                                               \
    template <int SCALE_A = 1, int SCALE_B = 1, int TRANSPOSE_A = 0, int TRANSPOSE_B = 0, int N>              \
    __forceinline__ void NAME(float (&d)[N], unsigned long long a, unsigned long long b, int scale_d = 1) {   \
        gpunn_emulator::WarpgroupProduct product{gpunn_emulator::WarpgroupProduct::TYPE};                     \
        product.a_matrix = a;                                                                                 \
        product.b_matrix = b;                                                                                 \
        gpunn_emulator::multiply_warpgroup(product, d, scale_d, SCALE_A, SCALE_B, TRANSPOSE_A, TRANSPOSE_B);  \
    }                                                                                                         \
    template <int SCALE_A = 1, int SCALE_B = 1, int TRANSPOSE_B = 0, int N>                                   \
    __forceinline__ void NAME(float (&d)[N], const unsigned (&a)[4], unsigned long long b, int scale_d = 1) { \
        gpunn_emulator::WarpgroupProduct product{gpunn_emulator::WarpgroupProduct::TYPE};                     \
        product.a_in_registers = true;                                                                        \
        for (int i = 0; i < 4; i++) product.a[i] = a[i];                                                      \
        product.b_matrix = b;                                                                                 \
        gpunn_emulator::multiply_warpgroup(product, d, scale_d, SCALE_A, SCALE_B, 0, TRANSPOSE_B);            \
    }

GPUNN_WGMMA(wgmma_f16, f16)
GPUNN_WGMMA(wgmma_bf16, bf16)
GPUNN_WGMMA(wgmma_tf32, tf32)
