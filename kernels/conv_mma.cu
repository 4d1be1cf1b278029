// Two-dimensional convolution (cross-correlation) on tensor cores: operands rounded to tf32, f16 or bf16, sums in fp32.
//
//   y[n,k,oh,ow] = b[k] + sum_{c,r,s} w[k,c,r,s] x[n, c, oh*sh - ph + r*dh, ow*sw - pw + s*dw]
//
// with c over the C/groups channels of the group of k. Arrays are NCHW outside; inside, `conv_mma_pack` has put the
// channels last and rounded them, so that a chunk of 16 bytes is 4 (tf32) or 8 neighbouring channels of a pixel, zeros
// behind the last one. Chunks are what the tensor cores take. Where channels are few, as in a first layer, a chunk is
// shared by TAPS neighbouring taps of the window: it is put together from TAPS parts, the channels of a pixel each.
// With 3 channels of 16 bits in chunks of their own 3/8 of the multiplications would be useful, with TAPS=2 3/4.
//
//   kernel                rows (M)     columns (N)            summed over (K)          bytes moved
//   conv_mma_pack         --           --                     --                       each element in and out once
//   conv_mma_product      K/groups     N*OH*OW pixels         KH*KW*C/groups           packed w, x read; y written
//     for gx              C/groups     pixels of gx           KH*KW*K/groups           packed w, gy read; gx written
//   conv_mma_backward_w   K/groups     KH*KW*C/groups         a run of the N*OH*OW     packed gy, x read; parts written
//
// Every gradient is gathered, every element summed by one warp in one order: no atomics, the same bits in every run.
// The parts of gw, one for each run of pixels, are added by the caller in their order.
//
// A block owns TILE_M x TILE_N of a product, each of its 2 x 4 warps TILE_M/2 x TILE_N/4 of that, in registers. It
// walks along K in steps of 64 bytes (16 or 32 terms), through a ring of STAGES pieces of both operands in shared
// memory: one piece is multiplied while the copies of the next are under way, zero-filled where they are padding.
//
// The plain kernel of bf16, without groups and dilation, a thread for each element of y:
//
//   __device__ float rounded(float x) {  // to the 16 upper bits, of two equally near ones to the even one; not for NaN
//     const unsigned bits = __float_as_uint(x);
//     return __uint_as_float((bits + 0x7fff + (bits >> 16) % 2) & 0xffff0000);
//   }
//   __global__ void plain_conv2d_bf16(const float* x, const float* w, const float* b, float* y, int N, int C, int H,
//                                     int W, int K, int KH, int KW, int OH, int OW, int sh, int sw, int ph, int pw) {
//     const int i = blockIdx.x * blockDim.x + threadIdx.x, ow = i % OW, oh = i / OW % OH, k = i / OW / OH % K;
//     const int n = i / OW / OH / K;
//     if (n >= N) return;
//     float sum = 0;
//     for (int c = 0; c < C; c++)
//       for (int r = 0; r < KH; r++)
//         for (int s = 0; s < KW; s++) {
//           const int row = oh * sh - ph + r, column = ow * sw - pw + s;
//           if (row >= 0 && row < H && column >= 0 && column < W)
//             sum += rounded(w[((k * C + c) * KH + r) * KW + s]) * rounded(x[((n * C + c) * H + row) * W + column]);
//         }
//     y[i] = sum + b[k];
//   }
//
// Specialisation: DTYPE=float, PRECISION=tf32, INDEX=int, TILE_M=128, TAPS=1, THREADS=256, TILE_N=128, PACK_TILE=32, CHUNK_BYTES=16, PIECE_BYTES=64
// Specialisation: DTYPE=float, PRECISION=f16, INDEX=long long, TILE_M=128, TAPS=1, THREADS=256, TILE_N=128, PACK_TILE=32, CHUNK_BYTES=16, PIECE_BYTES=64
// Specialisation: DTYPE=float, PRECISION=bf16, INDEX=int, TILE_M=64, TAPS=1, THREADS=256, TILE_N=128, PACK_TILE=32, CHUNK_BYTES=16, PIECE_BYTES=64
// Specialisation: DTYPE=float16_bits, PRECISION=f16, INDEX=int, TILE_M=32, TAPS=1, THREADS=256, TILE_N=128, PACK_TILE=32, CHUNK_BYTES=16, PIECE_BYTES=64
// Specialisation: DTYPE=float, PRECISION=tf32, INDEX=long long, TILE_M=64, TAPS=4, THREADS=256, TILE_N=128, PACK_TILE=32, CHUNK_BYTES=16, PIECE_BYTES=64
// Specialisation: DTYPE=float, PRECISION=bf16, INDEX=int, TILE_M=128, TAPS=2, THREADS=256, TILE_N=128, PACK_TILE=32, CHUNK_BYTES=16, PIECE_BYTES=64
// Specialisation: DTYPE=float16_bits, PRECISION=f16, INDEX=long long, TILE_M=128, TAPS=4, THREADS=256, TILE_N=128, PACK_TILE=32, CHUNK_BYTES=16, PIECE_BYTES=64
// Specialisation: DTYPE=bfloat16_bits, PRECISION=bf16, INDEX=int, TILE_M=64, TAPS=1, THREADS=256, TILE_N=128, PACK_TILE=32, CHUNK_BYTES=16, PIECE_BYTES=64
#include "macros.cuh"
#ifndef PRECISION
#error "define PRECISION, the type that the operands are rounded to: tf32, f16 or bf16"
#endif
#ifndef TILE_M
#error "define TILE_M, the rows of the product that one block computes: 32, 64 or 128"
#endif
#ifndef TAPS
#error "define TAPS, the taps of the window that share a chunk of x: 1, 2 or 4"
#endif
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif
#ifndef TILE_N
#error "define TILE_N, the columns of the product that one block computes"
#endif
#ifndef PACK_TILE
#error "define PACK_TILE, the pixels, and the channels, that a block of conv_mma_pack moves"
#endif
#if !defined(CHUNK_BYTES) || !defined(PIECE_BYTES)
#error "define CHUNK_BYTES, what is copied at a time, and PIECE_BYTES, what a step along K takes of a row"
#endif
#include "element.cuh"

typedef DTYPE T;

struct tf32 {
  typedef unsigned Bits;
  static __device__ __forceinline__ Bits rounded(float x) { return to_tf32(x); }
  static __device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    mma_m16n8k8_tf32(d, a, b);
  }
};
struct f16 {
  typedef unsigned short Bits;
  static __device__ __forceinline__ Bits rounded(float x) { return to_f16(x); }
  static __device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    mma_m16n8k16_f16(d, a, b);
  }
};
struct bf16 {
  typedef unsigned short Bits;
  static __device__ __forceinline__ Bits rounded(float x) { return to_bf16(x); }
  static __device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    mma_m16n8k16_bf16(d, a, b);
  }
};

typedef PRECISION::Bits Bits;
typedef uint4 Chunk;
#define CHUNK (CHUNK_BYTES / (int)sizeof(Bits))  // elements of a chunk
static_assert(sizeof(Chunk) == CHUNK_BYTES, "a chunk is what one copy moves");
// A part of a chunk: all of it, or the channels of one pixel.
struct __align__(CHUNK_BYTES / TAPS) Part {
  unsigned words[CHUNK_BYTES / 4 / TAPS];
};

#define STAGES 3
static_assert(THREADS == 2 * 4 * 32, "2 x 4 warps");
#define WARP_M (TILE_M / 2)
#define WARP_N (TILE_N / 4)

// The D of a warp: WARP_M/16 x WARP_N/8 fragments. row(m, i) and column(n, i) tell, within the tile, which element
// number i of fragment (m, n) is.
struct Sum {
  float d[WARP_M / 16][WARP_N / 8][4];
  int first_row, first_column;

  __device__ __forceinline__ Sum() : d{} {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    first_row = warp / 4 * WARP_M + lane / 4;
    first_column = warp % 4 * WARP_N + lane % 4 * 2;
  }
  __device__ __forceinline__ int row(int m, int i) const { return first_row + 16 * m + i / 2 * 8; }
  __device__ __forceinline__ int column(int n, int i) const { return first_column + 8 * n + i % 2; }
};

// ---- channels last -------------------------------------------------------------------------------------------------

// packed[n][p][g][c] = x[n][g*C + c][p] rounded, for c < C = channels of one of `groups` groups; 0 up to `padded`,
// whole parts. A block moves PACK_TILE pixels of up to PACK_TILE elements of one image and group through shared memory:
// it reads along pixels and writes along channels. grid = (images * pixel tiles, channel tiles, groups).
extern "C" __global__ void __launch_bounds__(THREADS)
conv_mma_pack(const T* __restrict__ x, Bits* __restrict__ packed, int pixels, int channels, int padded) {
  // Three words more: a column falls into different banks, and so do 4 elements of 16 bits of 8 pixels.
  __shared__ Bits tile[PACK_TILE][PACK_TILE + 12 / sizeof(Bits)];
  const int groups = gridDim.z, group = blockIdx.z, tiles = (pixels + PACK_TILE - 1) / PACK_TILE;
  const int image = blockIdx.x / tiles, p0 = blockIdx.x % tiles * PACK_TILE, c0 = blockIdx.y * PACK_TILE;
  const int width = min(PACK_TILE, padded - c0);  // elements of a pixel
  const T* from = x + ((INDEX)image * groups + group) * channels * pixels;
  Bits* to = packed + (INDEX)image * pixels * groups * padded;

  for (int i = threadIdx.x; i < PACK_TILE * width; i += THREADS) {
    const int c = c0 + i / PACK_TILE, p = p0 + i % PACK_TILE;
    const bool inside = c < channels && p < pixels;
    tile[i / PACK_TILE][i % PACK_TILE] = inside ? PRECISION::rounded(widened(from[(INDEX)c * pixels + p])) : 0;
  }
  __syncthreads();
  // A pixel has 2^bits lanes: few elements do not leave most of a warp idle.
  const int bits = 32 - __clz(width - 1);
  for (int i = threadIdx.x; i < PACK_TILE << bits; i += THREADS) {
    const int p = i >> bits, c = i & ((1 << bits) - 1);
    if (p0 + p < pixels && c < width) to[((INDEX)(p0 + p) * groups + group) * padded + c0 + c] = tile[c][p];
  }
}

// ---- forward, and backward of x ------------------------------------------------------------------------------------

#define STEP (PIECE_BYTES / CHUNK_BYTES)  // chunks along K of one piece
static_assert(STEP == 4, "place() turns rows of 4 chunks");
#define LOADED_ROWS (THREADS / STEP)

// A row of 4 chunks is 64 bytes, so that two rows share the 128 bytes of all banks. Turned like this, the same chunk of
// 8 neighbouring rows, which ldmatrix reads at a time, covers all banks once.
__device__ __forceinline__ int place(int row, int chunk) { return row * STEP + (chunk ^ (row / 2 & 3)); }

// The part of its chunks that a thread copies first. The chunks of eight lanes fill all banks: the next eight lanes begin
// with another part of theirs.
__device__ __forceinline__ int first_part() { return threadIdx.x / 8 % TAPS; }

// Along one axis output number i meets tap r in position i * scale + offset + r * step of 0 .. size - 1, or in padding.
// Forward: scale = stride, offset = -padding, step = dilation. Backward of x: see tensor_cores.py.
#define AXIS_PARAMETERS(axis) int axis##_scale, int axis##_offset, int axis##_step, int axis##_size

__device__ __forceinline__ bool inside_of(int size, int position) { return position >= 0 && position < size; }

// With k = g*rows + m:  out[n][k][...] = bias[k] + sum over taps and chunks of a[k][tap][chunk] . b[n][where][g][chunk]
// cut off below 0 if `relu`. a holds `rows` filters a group, of taps_h * taps_w * chunks chunks; or, with TAPS > 1 and
// one chunk, of as many as TAPS taps each make, zeros behind the last. Of an image's out_height x out_width elements
// this launch computes height x width: (i, j) is (first_h + i * every_h, first_w + j * every_w).
extern "C" __global__ void __launch_bounds__(THREADS, 2)
conv_mma_product(const Chunk* __restrict__ a, const Part* __restrict__ b, const T* __restrict__ bias,
                 T* __restrict__ out, int has_bias, int relu, int rows, int chunks, int taps_h, int taps_w, int images,
                 int height, int width, AXIS_PARAMETERS(h), AXIS_PARAMETERS(w), int out_height, int out_width,
                 int first_h, int every_h, int first_w, int every_w) {
  __shared__ Chunk a_ring[STAGES][TILE_M * STEP], b_ring[STAGES][TILE_N * STEP];
  const int groups = gridDim.z, group = blockIdx.z, m0 = blockIdx.y * TILE_M;
  const int image = height * width, terms = (taps_h * taps_w * chunks + TAPS - 1) / TAPS;
  const INDEX n0 = (INDEX)blockIdx.x * TILE_N, pixels = (INDEX)images * image;

  // A thread copies chunk `chunk` of every step, for rows `row`, `row` + LOADED_ROWS, ... of both pieces.
  const int row = threadIdx.x / STEP, chunk = threadIdx.x % STEP;
  const Chunk* filters = a + (INDEX)(group * rows + m0) * terms;
  int base_h[TILE_N / LOADED_ROWS], base_w[TILE_N / LOADED_ROWS], base_n[TILE_N / LOADED_ROWS];
#pragma unroll
  for (int i = 0; i < TILE_N / LOADED_ROWS; i++) {
    const INDEX pixel = n0 + row + i * LOADED_ROWS;
    const INDEX n = pixel / image;
    const int p = (int)(pixel - n * image);
    // Past the last pixel: a position that no tap leads back into the image.
    base_h[i] = pixel < pixels ? p / width * h_scale + h_offset : -(1 << 30);
    base_w[i] = p % width * w_scale + w_offset;
    base_n[i] = (int)n;
  }

  // What this thread copies next: term `term`, which is chunk `c` of tap (tap_h, tap_w), or begins with that tap.
  int term = chunk, c = TAPS == 1 ? chunk : 0, tap_h = 0, tap_w = TAPS == 1 ? 0 : chunk * TAPS;
  auto settle = [&] {
    if (TAPS > 1) {
      for (; term < terms && tap_w >= taps_w; tap_w -= taps_w) tap_h++;
    } else {
      while (c >= chunks) {
        c -= chunks;
        if (++tap_w == taps_w) tap_w = 0, tap_h++;
      }
    }
  };
  auto fetch = [&](int stage) {
    const bool any = term < terms;
#pragma unroll
    for (int i = 0; i < (TILE_M + LOADED_ROWS - 1) / LOADED_ROWS; i++) {
      const int m = row + i * LOADED_ROWS;
      const bool inside = any && m0 + m < rows;
      if (m < TILE_M)
        cp_async<CHUNK_BYTES>(&a_ring[stage][place(m, chunk)], inside ? filters + (INDEX)m * terms + term : a,
                              inside * CHUNK_BYTES);
    }
#pragma unroll
    for (int turn = 0; turn < TAPS; turn++) {
      const int part = turn ^ first_part();
      int part_h = tap_h, part_w = tap_w + part;
      if (TAPS > 1 && any)
        for (; part_w >= taps_w; part_w -= taps_w) part_h++;
#pragma unroll
      for (int i = 0; i < TILE_N / LOADED_ROWS; i++) {
        const int at_h = base_h[i] + part_h * h_step, at_w = base_w[i] + part_w * w_step;
        const bool inside = any && part_h < taps_h && inside_of(h_size, at_h) && inside_of(w_size, at_w);
        const Part* from = b;
        if (inside) from += ((((INDEX)base_n[i] * h_size + at_h) * w_size + at_w) * groups + group) * chunks + c;
        cp_async<CHUNK_BYTES / TAPS>((Part*)&b_ring[stage][place(row + i * LOADED_ROWS, chunk)] + part, from,
                                     inside * CHUNK_BYTES / TAPS);
      }
    }
    cp_async_commit();
    term += STEP;
    TAPS == 1 ? c += STEP : tap_w += STEP * TAPS;
    settle();
  };

#if __CUDA_ARCH__ >= 800
  constexpr int MMAS = STEP / 2;
#else
  constexpr int MMAS = 1;  // copies pass through registers there: the more products at a time, the more is spilled
#endif
  Sum sum;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  auto multiply = [&](const Chunk* a_tile, const Chunk* b_tile) {
#pragma unroll MMAS
    for (int k = 0; k < STEP; k += 2) {  // two chunks are the terms of one mma
      unsigned fb[WARP_N / 8][2];
#pragma unroll
      for (int n = 0; n < WARP_N / 8; n += 2) {
        unsigned both[4];
        ldmatrix(both, b_tile + place(warp % 4 * WARP_N + 8 * n + lane % 8 + lane / 16 * 8, k + lane / 8 % 2));
        fb[n][0] = both[0], fb[n][1] = both[1], fb[n + 1][0] = both[2], fb[n + 1][1] = both[3];
      }
#pragma unroll
      for (int m = 0; m < WARP_M / 16; m++) {
        unsigned fa[4];
        ldmatrix(fa, a_tile + place(warp / 4 * WARP_M + 16 * m + lane % 16, k + lane / 16));
#pragma unroll
        for (int n = 0; n < WARP_N / 8; n++) PRECISION::multiply(sum.d[m][n], fa, fb[n]);
      }
    }
  };

  settle();
#pragma unroll
  for (int stage = 0; stage < STAGES - 1; stage++) fetch(stage);
  int stage = 0;
  for (int k = 0; k < terms; k += STEP) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // the piece is there for all, and all are done with the one that is overwritten next
    fetch(stage == 0 ? STAGES - 1 : stage - 1);
    multiply(a_ring[stage], b_ring[stage]);
    stage = stage == STAGES - 1 ? 0 : stage + 1;
  }

#pragma unroll
  for (int n = 0; n < WARP_N / 8; n++)
#pragma unroll
    for (int j = 0; j < 2; j++) {
      const INDEX pixel = n0 + sum.column(n, j);
      if (pixel >= pixels) continue;
      const INDEX n_image = pixel / image;
      const int p = (int)(pixel - n_image * image);
      const INDEX at = (INDEX)(first_h + p / width * every_h) * out_width + first_w + p % width * every_w;
#pragma unroll
      for (int m = 0; m < WARP_M / 16; m++)
#pragma unroll
        for (int i = j; i < 4; i += 2) {
          const int k = m0 + sum.row(m, i);
          if (k >= rows) continue;
          float total = sum.d[m][n][i] + (has_bias ? widened(bias[group * rows + k]) : 0);
          if (relu && total < 0) total = 0;
          out[((n_image * groups + group) * rows + k) * out_height * out_width + at] = narrowed<T>(total);
        }
    }
}

// ---- backward of w -------------------------------------------------------------------------------------------------

#define DEPTH (PIECE_BYTES / (int)sizeof(Bits))  // pixels of one piece

// Chunk `chunk` of pixel `pixel` in a piece of DEPTH pixels x `width` chunks. Fragments are read across pixels: turned
// like this, 8 pixels (16-bit; of 4 chunks, as in `place`) or two chunks of 4 pixels (32-bit) cover all banks once.
__device__ __forceinline__ int place_across(int width, int pixel, int chunk) {
  const int turn = sizeof(Bits) == 4 ? pixel % 4 * 2 : width == 4 ? pixel / 2 % 4 : pixel % 8;
  return pixel * width + (chunk ^ turn);
}

// Of tf32: element `column` of pixel `pixel`. (ldmatrix transposes 16-bit elements only.)
__device__ __forceinline__ unsigned word(const Chunk* tile, int width, int pixel, int column) {
  return ((const unsigned*)(tile + place_across(width, pixel, column / 4)))[column % 4];
}

// parts[split][g*rows + m][tap][c] = sum over the split's pixels (n, oh, ow) of gy[n][oh][ow][g][m] x[n][where][g][c],
// gy of `row_chunks` and x of `chunks` chunks a group and pixel; with TAPS > 1 and one chunk, parts[split][..][tap][c]
// goes on to a whole chunk, with zeros for taps that the window has not.
// grid = (column tiles, row tiles, groups * splits); split_pixels, of one split, is a multiple of DEPTH.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
conv_mma_backward_w(const Chunk* __restrict__ gy, const Part* __restrict__ x, float* __restrict__ parts, int groups,
                    int split_pixels, int rows, int row_chunks, int chunks, int taps_h, int taps_w, int images,
                    int height, int width, AXIS_PARAMETERS(h), AXIS_PARAMETERS(w)) {
  const int a_width = TILE_M / CHUNK, b_width = TILE_N / CHUNK;  // chunks of a pixel
  const int a_pixels = THREADS / a_width, b_pixels = THREADS / b_width;  // that all threads copy at a time
  __shared__ Chunk a_ring[STAGES][DEPTH * a_width], b_ring[STAGES][DEPTH * b_width];
  const int group = blockIdx.z % groups, split = blockIdx.z / groups;
  const int m0 = blockIdx.y * TILE_M, n0 = blockIdx.x * TILE_N;
  const int image = height * width, columns = (taps_h * taps_w * chunks + TAPS - 1) / TAPS;  // in chunks
  const INDEX all = (INDEX)images * image, first = (INDEX)split * split_pixels;
  const INDEX last = first + split_pixels < all ? first + split_pixels : all;

  const int a_chunk = threadIdx.x % a_width, a_pixel = threadIdx.x / a_width;
  const bool a_inside = m0 / CHUNK + a_chunk < row_chunks;
  const Chunk* a_from = gy + (INDEX)group * row_chunks + m0 / CHUNK + a_chunk;
  const int b_chunk = threadIdx.x % b_width, b_pixel = threadIdx.x / b_width, column = n0 / CHUNK + b_chunk;
  const int c = TAPS == 1 ? column % chunks : 0, tap = TAPS == 1 ? column / chunks : column * TAPS;
  int base_h[TAPS], base_w[TAPS];
#pragma unroll
  for (int turn = 0; turn < TAPS; turn++) {
    const int own = tap + (turn ^ first_part());
    // Past the last tap: a position that no pixel leads back into the image.
    base_h[turn] = own < taps_h * taps_w ? h_offset + own / taps_w * h_step : -(1 << 30);
    base_w[turn] = w_offset + own % taps_w * w_step;
  }

  INDEX next = first;
  auto fetch = [&](int stage) {
#pragma unroll
    for (int i = a_pixel; i < DEPTH; i += a_pixels) {
      const bool inside = a_inside && next + i < last;
      cp_async<CHUNK_BYTES>(&a_ring[stage][place_across(a_width, i, a_chunk)],
                   inside ? a_from + (next + i) * groups * row_chunks : gy, inside * CHUNK_BYTES);
    }
#pragma unroll
    for (int i = b_pixel; i < DEPTH; i += b_pixels) {
      const INDEX n = (next + i) / image;
      const int p = (int)(next + i - n * image);
#pragma unroll
      for (int turn = 0; turn < TAPS; turn++) {
        const int part = turn ^ first_part();
        const int at_h = base_h[turn] + p / width * h_scale, at_w = base_w[turn] + p % width * w_scale;
        const bool inside = next + i < last && inside_of(h_size, at_h) && inside_of(w_size, at_w);
        const Part* from = x;
        if (inside) from += (((n * h_size + at_h) * w_size + at_w) * groups + group) * chunks + c;
        cp_async<CHUNK_BYTES / TAPS>((Part*)&b_ring[stage][place_across(b_width, i, b_chunk)] + part, from,
                                     inside * CHUNK_BYTES / TAPS);
      }
    }
    cp_async_commit();
    next += DEPTH;
  };

  Sum sum;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int row = warp / 4 * WARP_M, tile_column = warp % 4 * WARP_N;
  auto multiply = [&](const Chunk* a_tile, const Chunk* b_tile) {
#pragma unroll 1  // unrolled, it takes more than the 128 registers that two blocks on a multiprocessor have
    for (int k = 0; k < DEPTH; k += 2 * CHUNK) {  // the terms of one mma
      unsigned fb[WARP_N / 8][2];
#pragma unroll
      for (int n = 0; n < WARP_N / 8; n += 2) {
        if (sizeof(Bits) == 2) {
          unsigned both[4];
          ldmatrix_transposed(
              both, b_tile + place_across(b_width, k + lane % 16, (tile_column + 8 * n) / CHUNK + lane / 16));
          fb[n][0] = both[0], fb[n][1] = both[1], fb[n + 1][0] = both[2], fb[n + 1][1] = both[3];
        } else {
#pragma unroll
          for (int j = 0; j < 4; j++)
            fb[n + j / 2][j % 2] = word(b_tile, b_width, k + t + j % 2 * 4, tile_column + 8 * (n + j / 2) + g);
        }
      }
#pragma unroll
      for (int m = 0; m < WARP_M / 16; m++) {
        unsigned fa[4];
        if (sizeof(Bits) == 2) {
          ldmatrix_transposed(fa, a_tile + place_across(a_width, k + lane % 8 + lane / 16 * 8,
                                                        (row + 16 * m) / CHUNK + lane / 8 % 2));
        } else {
#pragma unroll
          for (int i = 0; i < 4; i++)
            fa[i] = word(a_tile, a_width, k + t + i / 2 * 4, row + 16 * m + g + i % 2 * 8);
        }
#pragma unroll
        for (int n = 0; n < WARP_N / 8; n++) PRECISION::multiply(sum.d[m][n], fa, fb[n]);
      }
    }
  };

#pragma unroll
  for (int stage = 0; stage < STAGES - 1; stage++) fetch(stage);
  int stage = 0;
  for (INDEX k = first; k < last; k += DEPTH) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // as above
    fetch(stage == 0 ? STAGES - 1 : stage - 1);
    multiply(a_ring[stage], b_ring[stage]);
    stage = stage == STAGES - 1 ? 0 : stage + 1;
  }

  float* part = parts + ((INDEX)split * groups + group) * rows * columns * CHUNK;
#pragma unroll
  for (int m = 0; m < WARP_M / 16; m++)
#pragma unroll
    for (int n = 0; n < WARP_N / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int k = m0 + sum.row(m, i), at = n0 + sum.column(n, i);
        if (k < rows && at < columns * CHUNK) part[(INDEX)k * columns * CHUNK + at] = sum.d[m][n][i];
      }
}
