// Stands for CUDA's header of this name: the device side is always there, the host side has no meaning here.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "math.h"
