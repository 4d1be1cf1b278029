// Goes ahead of libcu++'s own header: what that takes for granted of NVRTC, and the host compiler may not have. Without
// these macros libcu++ falls back to templates.
#pragma once
#include_next <cuda/std/__cccl/builtin.h>

#if !__has_builtin(__is_convertible_to)
#undef _CCCL_BUILTIN_IS_CONVERTIBLE_TO
#endif
#if !__has_builtin(__is_nothrow_destructible)
#undef _CCCL_BUILTIN_IS_NOTHROW_DESTRUCTIBLE
#endif
