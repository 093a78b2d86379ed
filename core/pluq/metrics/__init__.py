"""Figures of the running stack: counters that each process keeps in memory of its own, and that the status role may read.

    page        one process's series: names and numbers in shared memory, one writer, any number of readers
    board       the pages of a stack, made by the supervisor before it forks; `page()` is this process's
    families    every figure there is: its name, kind, labels, what it means
    text        the Prometheus text format

Off by default: without a board `page()` is None, and whoever counts has asked for it once, at its start. A role that ends and
starts again goes on counting where it was; with the supervisor the figures end. Nobody waits for a reader, and nothing on the
way of a message depends on there being one.
"""

from pluq.metrics.board import Blob, Board, adopt, page, take, within
from pluq.metrics.page import Histogram, Page, series

__all__ = ["Blob", "Board", "Histogram", "Page", "adopt", "page", "series", "take", "within"]
