// Philox4x64-10, the counter-based random numbers of numpy.random.Philox (Salmon et al., "Parallel random numbers: as
// easy as 1, 2, 3", 2011): a block of four 64-bit words is a function of a 256-bit counter and a 128-bit key, so that
// any thread computes any part of the stream. Ten rounds, each of two 64 x 64 -> 128 bit products.
//
// numpy.random.Philox(key=k, counter=c) adds 1 to its counter before each block: its first word is word 0 of the block
// of counter c + 1. Least significant words come first, in counter and key alike.
#pragma once

struct PhiloxBlock {
  unsigned long long word[4];
};

__device__ __forceinline__ PhiloxBlock philox4x64(PhiloxBlock counter, unsigned long long key0,
                                                  unsigned long long key1) {
  const unsigned long long multiplier0 = 0xD2E7470EE14C6C93ull, multiplier1 = 0xCA5A826395121157ull;
  unsigned long long a = counter.word[0], b = counter.word[1], c = counter.word[2], d = counter.word[3];
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const unsigned long long high0 = __umul64hi(multiplier0, a), low0 = multiplier0 * a;
    const unsigned long long high1 = __umul64hi(multiplier1, c), low1 = multiplier1 * c;
    a = high1 ^ b ^ key0;
    b = low1;
    c = high0 ^ d ^ key1;
    d = low0;
    key0 += 0x9E3779B97F4A7C15ull;  // the golden ratio and the square root of 3, less 1, in 64 bits
    key1 += 0xBB67AE8584CAA73Bull;
  }
  return {{a, b, c, d}};
}
