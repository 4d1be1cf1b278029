// Takes the place of a header that the C++ library's own are made of: std::abs is the device's, as cmath has it.
#pragma once
#include <cmath>
