"""Operations on images that have no gradient.

skeleton         thinning to lines of one pixel, by Zhang and Suen
"""

from gpunn.ops.image.skeleton import skeletonize

__all__ = ["skeletonize"]
