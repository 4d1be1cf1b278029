// Who sees all that a kernel does, in the modes that have one.
#pragma once

#if defined(GPUNN_EMULATOR_CHECK)
#include "checker.h"
#elif defined(GPUNN_EMULATOR_COUNT)
#include "counter.h"
#endif

#ifdef GPUNN_EMULATOR_WATCH
namespace gpunn_emulator {

#ifdef GPUNN_EMULATOR_CHECK
typedef Checker Watcher;
static Watcher& watcher = checker;
#else
typedef Counter Watcher;
static Watcher& watcher = counter;
#endif

}  // namespace gpunn_emulator
#endif
