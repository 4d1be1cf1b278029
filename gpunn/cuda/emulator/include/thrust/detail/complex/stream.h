// In place of Thrust's: a kernel writes to no stream.
#pragma once
