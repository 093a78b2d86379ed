"""syncfs of the C library."""

import pytest

from pluq.store.syncfs import have_syncfs, syncfs


def test_syncfs_reports_a_bad_descriptor():
    if not have_syncfs():
        pytest.skip("no syncfs that reports errors on this kernel")
    with pytest.raises(OSError, match="descriptor"):
        syncfs(-1)
