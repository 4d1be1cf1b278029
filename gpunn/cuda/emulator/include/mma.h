// Stands for CUDA's header of this name, so that a source which includes it compiles; nvcuda::wmma is not
// emulated.
#pragma once
