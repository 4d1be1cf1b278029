// Takes the place of the C library's header: `assert` is always there, and its failure ends the launch, not
// the process.
#pragma once
