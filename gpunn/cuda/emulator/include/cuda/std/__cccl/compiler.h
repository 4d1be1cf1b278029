// Goes ahead of libcu++'s own header: that asks first which host compiler it has, and this is to be NVRTC.
#pragma once
#pragma push_macro("__GNUC__")
#pragma push_macro("__clang__")
#undef __GNUC__
#undef __clang__
#include_next <cuda/std/__cccl/compiler.h>
#pragma pop_macro("__clang__")
#pragma pop_macro("__GNUC__")
