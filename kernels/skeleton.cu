// Thinning of binary images to skeletons (Zhang and Suen 1984), on one bit a pixel.
//
//   skeleton_pack     bit b of word (row, k) = x[row, 32 k + b] != 0
//   skeleton_thin     one of the two sub-iterations: a set pixel goes if bit number (its 8 neighbours) of `removal` is set
//   skeleton_unpack   y[row, 32 k + b] = bit b of word (row, k)
//
// Rows of all images of a batch lie behind each other, each of K = ceil(W / 32) words; pixels outside an image are 0.
// Packing: a warp owns a word, a lane a pixel. Thinning: a thread owns a word; it reads the 3 x 3 words around it and
// looks up only those of its pixels that are set and have a neighbour that is not. Unpacking: a thread owns a pixel.
// Bytes moved: sizeof(DTYPE) + 1/8 a pixel to pack, 1/4 a sub-iteration, 9/8 to unpack. A sub-iteration reads one
// buffer and writes the other, each word by one thread; all threads write the same value to `changed`: the same bits
// in every run.
//
// Specialisation: DTYPE=unsigned char, INDEX=int, THREADS=128
// Specialisation: DTYPE=float, INDEX=long long, THREADS=128
#ifndef DTYPE
#error "define DTYPE, the element type of the images: unsigned char, float or double"
#endif
#ifndef INDEX
#error "define INDEX, the integer type that can count the pixels of every image, rows rounded up to words: int or long long"
#endif
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif

typedef DTYPE T;

__device__ __forceinline__ INDEX global_thread() { return (INDEX)blockIdx.x * THREADS + threadIdx.x; }

extern "C" __global__ void __launch_bounds__(THREADS)
skeleton_pack(const T* __restrict__ x, unsigned int* __restrict__ packed, INDEX words, int K, int W) {
  const INDEX word = global_thread() / 32;
  if (word >= words) return;  // of all lanes together
  const INDEX row = word / K;
  const int column = (int)(word % K) * 32 + threadIdx.x % 32;
  const unsigned int bits = __ballot_sync(0xffffffffu, column < W && x[row * W + column] != 0);
  if (threadIdx.x % 32 == 0) packed[word] = bits;
}

// The 34 pixels of word k of a row with one neighbour on each side: the left neighbour is bit 0.
__device__ __forceinline__ unsigned long long span(const unsigned int* row, int k, int K) {
  const unsigned long long left = k > 0 ? row[k - 1] >> 31 : 0, right = k < K - 1 ? row[k + 1] & 1 : 0;
  return left | (unsigned long long)row[k] << 1 | right << 33;
}

extern "C" __global__ void __launch_bounds__(THREADS)
skeleton_thin(const unsigned int* __restrict__ from, unsigned int* __restrict__ to,
              const unsigned int* __restrict__ removal, int* changed, INDEX words, int H, int K) {
  const INDEX i = global_thread();
  if (i >= words) return;
  const INDEX row = i / K;
  const int k = i % K, h = row % H;
  const unsigned int word = from[i];
  const unsigned long long above = h > 0 ? span(from + (row - 1) * K, k, K) : 0;
  const unsigned long long beside = span(from + row * K, k, K);
  const unsigned long long below = h < H - 1 ? span(from + (row + 1) * K, k, K) : 0;

  const unsigned int surrounded = above & above >> 1 & above >> 2 & beside & beside >> 2 & below & below >> 1 & below >> 2;
  unsigned int removed = 0;
  for (unsigned int open = word & ~surrounded; open; open &= open - 1) {
    const int b = __ffs(open) - 1;
    const int neighbours = (above >> b & 7) | (beside >> b & 1) << 3 | (beside >> (b + 2) & 1) << 4 | (below >> b & 7) << 5;
    removed |= (removal[neighbours / 32] >> neighbours % 32 & 1) << b;
  }
  to[i] = word & ~removed;
  if (removed) atomicOr(changed, 1);
}

extern "C" __global__ void __launch_bounds__(THREADS)
skeleton_unpack(const unsigned int* __restrict__ packed, unsigned char* __restrict__ y, INDEX pixels, int K, int W) {
  const INDEX i = global_thread();
  if (i >= pixels) return;
  const INDEX row = i / W;
  const int column = i % W;
  y[i] = packed[row * K + column / 32] >> column % 32 & 1;
}
