"""A run folder as a page: one file that works offline, or live while the run trains; and its figures, drawn again."""

from gpunn.report.figures import redraw
from gpunn.report.page import write_page
from gpunn.report.watch import Watch

__all__ = ["Watch", "redraw", "write_page"]
