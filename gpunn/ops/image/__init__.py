"""Operations on images.

skeleton         thinning to lines of one pixel, by Zhang and Suen; it has no gradient
fold             windows as columns, and columns added up to an image
"""

from gpunn.ops.image.fold import fold, unfold
from gpunn.ops.image.skeleton import skeletonize

__all__ = ["fold", "skeletonize", "unfold"]
