// In place of libcu++: cuda::std is the library of the host's compiler. The folder is looked into last, so that libcu++
// itself is taken where the source brings it along.
#pragma once

namespace std {}
namespace cuda {
namespace std {
using namespace ::std;
}
}  // namespace cuda
