// Goes ahead of the C library's header, whose clock() has another type than CUDA's.
#define clock gpunn_host_clock
#include_next <time.h>
#undef clock
