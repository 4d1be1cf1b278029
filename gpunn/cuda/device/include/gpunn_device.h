// Included ahead of what CuPy compiles: what NVRTC has beside what the emulator knows of it.
#pragma once
#undef NULL
#include <initializer_list>
#undef NULL
#include "gpunn_emulator.h"
