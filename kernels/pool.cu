// Two-dimensional max and average pooling over planes (N*C images of H x W), forward and backward.
//
//   max_pool2d_forward    y = max over the window inside the input; place = where in the window it was found
//   max_pool2d_backward   gx[h,w] = sum of gy over the windows whose maximum lies at (h, w)
//   avg_pool2d_forward    y = sum over the window inside the input / divisor
//   avg_pool2d_backward   gx[h,w] = sum of gy / divisor over the windows that hold (h, w)
//
// A thread owns ROWS x VECTOR neighbouring elements of what the kernel writes, so that what their windows share is
// read, and their position computed, once: VECTOR in a row, moved in one access of 16 bytes, where the rows' lengths
// allow; else ROWS below each other, which leaves neighbouring threads on neighbouring addresses at any length.
// 1-D grid. Backward gathers, over the windows that can hold the thread's elements, in a fixed order: no atomics, the
// same bits in every run. Bytes moved, for float: forward 4 per element of x and 4 of y, backward the same, and
// sizeof(PLACE) per element of y for max pooling.
// 16-bit elements are compared and summed in float, and the sums rounded once.
// Padding is -inf for the maximum and 0 for the mean. The first maximum wins a tie; NaN wins over any number.
//
// The plain kernel of the maximum, a thread for each element of y (no window lies in the padding alone):
//
//   __global__ void plain_max_pool2d(const float* x, float* y, unsigned char* place, int planes, int H, int W, int KH,
//                                    int KW, int OH, int OW, int sh, int sw, int ph, int pw, int dh, int dw) {
//     const int i = blockIdx.x * blockDim.x + threadIdx.x, ow = i % OW, oh = i / OW % OH, plane = i / OW / OH;
//     if (plane >= planes) return;
//     float best = 0;
//     int found = -1;
//     for (int r = 0; r < KH; r++)
//       for (int s = 0; s < KW; s++) {
//         const int row = oh * sh - ph + r * dh, column = ow * sw - pw + s * dw;
//         if (row < 0 || row >= H || column < 0 || column >= W) continue;
//         const float element = x[(plane * H + row) * W + column];
//         if (found < 0 || element > best || element != element) best = element, found = r * KW + s;
//       }
//     y[i] = best;
//     place[i] = found;
//   }
//
// Specialisation: DTYPE=float, INDEX=int, KH=3, KW=3, PLACE=unsigned char, VECTOR=1, THREADS=128, ROWS=4
// Specialisation: DTYPE=float, INDEX=int, KH=3, KW=3, PLACE=unsigned char, VECTOR=4, SW=2, PW=1, THREADS=128, ROWS=1
// Specialisation: DTYPE=float, INDEX=int, KH=2, KW=2, PLACE=unsigned char, VECTOR=4, SW=2, PW=0, THREADS=128, ROWS=1
// Specialisation: DTYPE=double, INDEX=int, KH=2, KW=2, PLACE=unsigned char, VECTOR=2, SW=2, PW=0, THREADS=128, ROWS=1
// Specialisation: DTYPE=float16_bits, INDEX=int, KH=3, KW=3, PLACE=unsigned char, VECTOR=4, SW=2, PW=1, THREADS=128, ROWS=1
// Specialisation: DTYPE=bfloat16_bits, INDEX=int, KH=3, KW=3, PLACE=unsigned char, VECTOR=1, THREADS=128, ROWS=4
// Specialisation: DTYPE=float, INDEX=long long, KH=17, KW=16, PLACE=int, VECTOR=1, THREADS=128, ROWS=4
#include "macros.cuh"
#if !defined(KH) || !defined(KW)
#error "define KH and KW, the height and width of the window"
#endif
#ifndef PLACE
#error "define PLACE, the integer type that can count the elements of the window"
#endif
#ifndef THREADS
#error "define THREADS, the threads of a block"
#endif
#ifndef ROWS
#error "define ROWS, the rows of elements that a thread owns: 1 where VECTOR > 1"
#endif
#include "pack.cuh"
#if VECTOR > 1 && (!defined(SW) || !defined(PW))
#error "define SW and PW, the stride and the left padding along a row, for VECTOR > 1"
#endif

#define BLOCKS 8  // on a multiprocessor at once. Unasked, ptxas aims at more of them, and spills registers for it

typedef DTYPE T;
typedef Wide<T>::type A;  // in which elements are compared and summed

// The elements that a thread owns: rows `row` ... and columns `column` ... of a plane of H x W.
struct Patch {
  INDEX plane;
  int row, column;

  __device__ __forceinline__ Patch(int H, int W) {
    const INDEX i = (INDEX)blockIdx.x * THREADS + threadIdx.x;
    const int across = W / VECTOR, patches = (H + ROWS - 1) / ROWS * across;
    plane = i / patches;
    const int p = i - plane * patches, strip = p / across;
    row = strip * ROWS;
    column = (p - strip * across) * VECTOR;
  }
};

// Calls visit(v, s, value) for element s of the row of window v of a thread's VECTOR neighbouring windows, in order of
// s. `row` is a row of the image, `left` the column of element 0 of window 0.
#if VECTOR == 1
constexpr int UNROLLED = KW <= 8 ? KW : 1;  // the elements of a wider window would leave the registers

template <class Visit>
__device__ __forceinline__ void visit_row(const T* row, int left, int W, int dw, A, Visit visit) {
#pragma unroll UNROLLED
  for (int s = 0; s < KW; s++) {
    const int w = left + s * dw;
    if (w >= 0 && w < W) visit(0, s, widened(row[w]));
  }
}
#else
// The windows start at a multiple of VECTOR * SW columns, less PW: SW whole vectors, and what is before and after them.
// Elements outside the image are visited with the value `outside`. No dilation.
template <class Visit>
__device__ __forceinline__ void visit_row(const T* row, int left, int W, int, A outside, Visit visit) {
  constexpr int NEEDED = (VECTOR - 1) * SW + KW, SPAN = NEEDED > PW + VECTOR * SW ? NEEDED : PW + VECTOR * SW;
  A values[SPAN];
#pragma unroll
  for (int i = 0; i < SPAN; i++)
    if (i < PW || i >= PW + VECTOR * SW) values[i] = left + i >= 0 && left + i < W ? widened(row[left + i]) : outside;
#pragma unroll
  for (int i = PW; i < PW + VECTOR * SW; i += VECTOR) {
    Pack<A> pack;
#pragma unroll
    for (int j = 0; j < VECTOR; j++) pack.v[j] = outside;
    if (left + i < W) pack = widened(load(row + left + i));
#pragma unroll
    for (int j = 0; j < VECTOR; j++) values[i + j] = pack.v[j];
  }
#pragma unroll
  for (int v = 0; v < VECTOR; v++)
#pragma unroll
    for (int s = 0; s < KW; s++) visit(v, s, values[v * SW + s]);
}
#endif

// Which row of each of a thread's windows the j-th row of the image below the first window's top is; -1 for none.
struct WindowRows {
  int r[ROWS];
  bool any = false;

  __device__ __forceinline__ WindowRows(int j, int sh, int dh) {
#pragma unroll
    for (int u = 0; u < ROWS; u++) {
      const int below = j - u * sh;
      const int row = dh == 1 ? below : below / dh;
      r[u] = row * dh == below && row < KH ? row : -1;
      any |= r[u] >= 0;
    }
  }
};

// The first element of a window, `apart` from each other, that does not lie before the image.
__device__ __forceinline__ int first_inside(int start, int apart) {
  return start < 0 ? (apart - 1 - start) / apart : 0;
}

// If every element of a window is -inf its maximum is its first one inside the image. A window of padding alone has
// place 0: that is padding, and gets no gradient.
__device__ __forceinline__ int first_place(int top, int left, int H, int W, int dh, int dw) {
  const int r = first_inside(top, dh), s = first_inside(left, dw);
  return r < KH && top + r * dh < H && s < KW && left + s * dw < W ? r * KW + s : 0;
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
max_pool2d_forward(const T* __restrict__ x, T* __restrict__ y, PLACE* __restrict__ place, int planes, int H, int W,
                   int OH, int OW, int sh, int sw, int ph, int pw, int dh, int dw) {
#if VECTOR > 1
  dh = dw = 1;  // a constant: nothing is left to divide by
#endif
  const Patch own(OH, OW);
  if (own.plane >= planes) return;
  const int top = own.row * sh - ph, left = own.column * sw - pw;
  const T* plane = x + own.plane * H * W;

  const A lowest = -(A)__int_as_float(0x7f800000);  // -inf; NVRTC has no INFINITY
  Pack<A> best[ROWS];
  int found[ROWS][VECTOR];
#pragma unroll
  for (int u = 0; u < ROWS; u++)
#pragma unroll
    for (int v = 0; v < VECTOR; v++) {
      best[u].v[v] = lowest;
      found[u][v] = first_place(top + u * sh, left + v * sw, H, W, dh, dw);
    }
  for (int j = 0; j < (ROWS - 1) * sh + (KH - 1) * dh + 1; j++) {
    const int h = top + j;
    const WindowRows rows(j, sh, dh);
    if (h < 0 || h >= H || !rows.any) continue;
    visit_row(plane + (INDEX)h * W, left, W, dw, lowest, [&](int v, int s, A value) {
#pragma unroll
      for (int u = 0; u < ROWS; u++) {
        if (rows.r[u] < 0) continue;
        if (value > best[u].v[v] || value != value) {
          best[u].v[v] = value;
          found[u][v] = rows.r[u] * KW + s;
        }
      }
    });
  }
#pragma unroll
  for (int u = 0; u < ROWS; u++) {
    if (own.row + u >= OH) break;
    const INDEX o = (own.plane * OH + own.row + u) * OW + own.column;
    Pack<PLACE> places;
#pragma unroll
    for (int v = 0; v < VECTOR; v++) places.v[v] = found[u][v];
    store(y + o, narrowed<T>(best[u]));
    store(place + o, places);
  }
}

// The first of the windows, each `extent` long, that end after `position` (counted with the padding).
__device__ __forceinline__ int first_window(int position, int extent, int step) {
  return position < extent ? 0 : (position - extent) / step + 1;
}

__device__ __forceinline__ void store_patch(T* gx, const Patch& own, const Pack<A>* sums, int H, int W) {
#pragma unroll
  for (int u = 0; u < ROWS; u++)
    if (own.row + u < H) store(gx + (own.plane * H + own.row + u) * W + own.column, narrowed<T>(sums[u]));
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
max_pool2d_backward(const T* __restrict__ gy, const PLACE* __restrict__ place, T* __restrict__ gx, int planes, int H,
                    int W, int OH, int OW, int sh, int sw, int ph, int pw, int dh, int dw) {
  const Patch own(H, W);
  if (own.plane >= planes) return;
  const int padded_h = own.row + ph, padded_w = own.column + pw;

  Pack<A> sums[ROWS] = {};
  const int last_oh = min((padded_h + ROWS - 1) / sh, OH - 1), last_ow = min((padded_w + VECTOR - 1) / sw, OW - 1);
  const int first_ow = first_window(padded_w, (KW - 1) * dw + 1, sw);
  for (int oh = first_window(padded_h, (KH - 1) * dh + 1, sh); oh <= last_oh; oh++)
    for (int ow = first_ow; ow <= last_ow; ow++) {
      const INDEX o = (own.plane * OH + oh) * OW + ow;
      const int p = place[o];
      const A g = widened(gy[o]);
      const int row = oh * sh + p / KW * dh - padded_h, column = ow * sw + p % KW * dw - padded_w;
#pragma unroll
      for (int u = 0; u < ROWS; u++)
#pragma unroll
        for (int v = 0; v < VECTOR; v++) sums[u].v[v] += row == u && column == v ? g : 0;
    }
  store_patch(gx, own, sums, H, W);
}

// The elements along one axis that a window of `extent` at `start` is divided by. What hangs over the padding's far
// edge (ceil_mode) is never counted; the padding itself is, if count_padding.
__device__ __forceinline__ int counted(int start, int extent, int length, int pad_end, int count_padding) {
  const int end = min(start + extent, count_padding ? length + pad_end : length);
  return end - (count_padding ? start : max(start, 0));
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
avg_pool2d_forward(const T* __restrict__ x, T* __restrict__ y, int planes, int H, int W, int OH, int OW, int sh,
                   int sw, int ph, int pw, int ph_end, int pw_end, int count_padding) {
  const Patch own(OH, OW);
  if (own.plane >= planes) return;
  const int top = own.row * sh - ph, left = own.column * sw - pw;
  const T* plane = x + own.plane * H * W;

  Pack<A> sums[ROWS] = {};
  for (int j = 0; j < (ROWS - 1) * sh + KH; j++) {
    const int h = top + j;
    const WindowRows rows(j, sh, 1);
    if (h < 0 || h >= H || !rows.any) continue;
    visit_row(plane + (INDEX)h * W, left, W, 1, 0, [&](int v, int, A value) {
#pragma unroll
      for (int u = 0; u < ROWS; u++)
        if (rows.r[u] >= 0) sums[u].v[v] += value;
    });
  }
#pragma unroll
  for (int u = 0; u < ROWS; u++) {
    if (own.row + u >= OH) break;
    const int rows = counted(top + u * sh, KH, H, ph_end, count_padding);
#pragma unroll
    for (int v = 0; v < VECTOR; v++) sums[u].v[v] /= rows * counted(left + v * sw, KW, W, pw_end, count_padding);
    store(y + (own.plane * OH + own.row + u) * OW + own.column, narrowed<T>(sums[u]));
  }
}

// 1 / n for n of 0 ... LENGTH, divided by the compiler: a division by a number that is known only here takes a function
// call for its rare cases, and registers saved around it.
template <int LENGTH>
struct Reciprocals {
  A of[LENGTH + 1];

  constexpr __device__ Reciprocals() : of() {
    for (int n = 1; n <= LENGTH; n++) of[n] = (A)1 / n;
  }
};

__device__ const Reciprocals<KH> one_over_rows;
__device__ const Reciprocals<KW> one_over_columns;

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
avg_pool2d_backward(const T* __restrict__ gy, T* __restrict__ gx, int planes, int H, int W, int OH, int OW, int sh,
                    int sw, int ph, int pw, int ph_end, int pw_end, int count_padding) {
  const Patch own(H, W);
  if (own.plane >= planes) return;
  const int padded_h = own.row + ph, padded_w = own.column + pw;

  Pack<A> sums[ROWS] = {};
  const int last_oh = min((padded_h + ROWS - 1) / sh, OH - 1), last_ow = min((padded_w + VECTOR - 1) / sw, OW - 1);
  const int first_ow = first_window(padded_w, KW, sw);
  for (int oh = first_window(padded_h, KH, sh); oh <= last_oh; oh++) {
    const A row_share = one_over_rows.of[counted(oh * sh - ph, KH, H, ph_end, count_padding)];
    for (int ow = first_ow; ow <= last_ow; ow++) {
      const A share = row_share * one_over_columns.of[counted(ow * sw - pw, KW, W, pw_end, count_padding)];
      const A g = widened(gy[(own.plane * OH + oh) * OW + ow]) * share;
      const int row = padded_h - oh * sh, column = padded_w - ow * sw;  // of the thread's first element in the window
#pragma unroll
      for (int u = 0; u < ROWS; u++)
#pragma unroll
        for (int v = 0; v < VECTOR; v++)
          sums[u].v[v] += row + u >= 0 && row + u < KH && column + v >= 0 && column + v < KW ? g : 0;
    }
  }
  store_patch(gx, own, sums, H, W);
}
