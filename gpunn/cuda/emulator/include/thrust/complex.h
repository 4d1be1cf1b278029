// Goes ahead of Thrust's own header, which wants std::abs and the like of <math.h>.
#pragma once
#include <cmath>
#include_next <thrust/complex.h>
