// Two-dimensional max and average pooling over planes (N*C images of H x W), forward and backward.
//
//   max_pool2d_forward    y = max over the window inside the input; place = where in the window it was found
//   max_pool2d_backward   gx[h,w] = sum of gy over the windows whose maximum lies at (h, w)
//   avg_pool2d_forward    y = sum over the window inside the input / divisor
//   avg_pool2d_backward   gx[h,w] = sum of gy / divisor over the windows that hold (h, w)
//
// A thread owns one element of what the kernel writes; 1-D grid. Backward gathers in a fixed order: no atomics,
// the same bits in every run. Bytes moved at least, for a window of k elements at stride s (float):
// forward 4 per element of x and 4 of y, backward the same, and sizeof(PLACE) per element of y for max pooling.
// Padding is -inf for the maximum and 0 for the mean. The first maximum wins a tie; NaN wins over any number.
//
// Specialisation: DTYPE=float, INDEX=int, KH=3, KW=3, PLACE=unsigned char
// Specialisation: DTYPE=double, INDEX=int, KH=2, KW=2, PLACE=unsigned char
// Specialisation: DTYPE=float, INDEX=long long, KH=17, KW=16, PLACE=int
#ifndef DTYPE
#error "define DTYPE, the element type: float or double"
#endif
#if !defined(KH) || !defined(KW)
#error "define KH and KW, the height and width of the window"
#endif
#ifndef INDEX
#error "define INDEX, the integer type that can count the elements of every array: int or long long"
#endif
#ifndef PLACE
#error "define PLACE, the integer type that can count the elements of the window"
#endif

#define THREADS 128

typedef DTYPE T;

__device__ __forceinline__ INDEX global_thread() { return (INDEX)blockIdx.x * THREADS + threadIdx.x; }

extern "C" __global__ void __launch_bounds__(THREADS)
max_pool2d_forward(const T* __restrict__ x, T* __restrict__ y, PLACE* __restrict__ place, int planes, int H, int W,
                   int OH, int OW, int sh, int sw, int ph, int pw, int dh, int dw) {
  const INDEX i = global_thread(), image = (INDEX)OH * OW;
  if (i >= planes * image) return;
  const int p = i % image, top = p / OW * sh - ph, left = p % OW * sw - pw;
  const T* plane = x + i / image * H * W;

  T best = -(T)__int_as_float(0x7f800000);  // -inf; NVRTC has no INFINITY
  int found = -1;
  for (int r = 0; r < KH; r++)
    for (int s = 0; s < KW; s++) {
      const int h = top + r * dh, w = left + s * dw;
      if (h < 0 || h >= H || w < 0 || w >= W) continue;
      const T v = plane[(INDEX)h * W + w];
      if (v > best || v != v || found < 0) {
        best = v;
        found = r * KW + s;
      }
    }
  y[i] = best;
  place[i] = found < 0 ? 0 : found;  // a window of padding alone: its place 0 is padding, and gets no gradient
}

extern "C" __global__ void __launch_bounds__(THREADS)
max_pool2d_backward(const T* __restrict__ gy, const PLACE* __restrict__ place, T* __restrict__ gx, int planes, int H,
                    int W, int OH, int OW, int sh, int sw, int ph, int pw, int dh, int dw) {
  const INDEX i = global_thread(), image = (INDEX)H * W;
  if (i >= planes * image) return;
  const int p = i % image, padded_h = p / W + ph, padded_w = p % W + pw;
  const INDEX plane = i / image * OH * OW;

  T sum = 0;
  for (int r = 0; r < KH; r++)
    for (int s = 0; s < KW; s++) {
      const int top = padded_h - r * dh, left = padded_w - s * dw;
      if (top < 0 || left < 0 || top % sh || left % sw || top / sh >= OH || left / sw >= OW) continue;
      const INDEX o = plane + (INDEX)(top / sh) * OW + left / sw;
      if (place[o] == r * KW + s) sum += gy[o];
    }
  gx[i] = sum;
}

// The elements that a window of KH x KW at (top, left) is divided by. What hangs over the padding's far edge
// (ceil_mode) is never counted; the padding itself is, if count_padding.
__device__ __forceinline__ int divisor(int top, int left, int H, int W, int ph_end, int pw_end, int count_padding) {
  const int bottom = min(top + KH, count_padding ? H + ph_end : H);
  const int right = min(left + KW, count_padding ? W + pw_end : W);
  if (!count_padding) top = max(top, 0), left = max(left, 0);
  return (bottom - top) * (right - left);
}

extern "C" __global__ void __launch_bounds__(THREADS)
avg_pool2d_forward(const T* __restrict__ x, T* __restrict__ y, int planes, int H, int W, int OH, int OW, int sh,
                   int sw, int ph, int pw, int ph_end, int pw_end, int count_padding) {
  const INDEX i = global_thread(), image = (INDEX)OH * OW;
  if (i >= planes * image) return;
  const int p = i % image, top = p / OW * sh - ph, left = p % OW * sw - pw;
  const T* plane = x + i / image * H * W;

  T sum = 0;
  for (int h = max(top, 0); h < min(top + KH, H); h++)
    for (int w = max(left, 0); w < min(left + KW, W); w++) sum += plane[(INDEX)h * W + w];
  y[i] = sum / divisor(top, left, H, W, ph_end, pw_end, count_padding);
}

extern "C" __global__ void __launch_bounds__(THREADS)
avg_pool2d_backward(const T* __restrict__ gy, T* __restrict__ gx, int planes, int H, int W, int OH, int OW, int sh,
                    int sw, int ph, int pw, int ph_end, int pw_end, int count_padding) {
  const INDEX i = global_thread(), image = (INDEX)H * W;
  if (i >= planes * image) return;
  const int p = i % image, padded_h = p / W + ph, padded_w = p % W + pw;
  const INDEX plane = i / image * OH * OW;

  T sum = 0;
  const int first_oh = padded_h < KH ? 0 : (padded_h - KH) / sh + 1, first_ow = padded_w < KW ? 0 : (padded_w - KW) / sw + 1;
  for (int oh = first_oh; oh < min(padded_h / sh + 1, OH); oh++)
    for (int ow = first_ow; ow < min(padded_w / sw + 1, OW); ow++)
      sum += gy[plane + (INDEX)oh * OW + ow] /
             divisor(oh * sh - ph, ow * sw - pw, H, W, ph_end, pw_end, count_padding);
  gx[i] = sum;
}
