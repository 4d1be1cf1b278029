// Stands for CUDA's header of this name, whose content is always there.
#pragma once
