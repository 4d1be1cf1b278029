// Stands for CUDA's header of this name; threadIdx and the others are always there.
#pragma once
