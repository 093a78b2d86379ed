"""qmail's words for system errors."""

import errno

from pluq.store.oserror import error_text, is_temporary


def test_qmails_words_are_used():
    assert error_text(errno.ENOENT) == "file does not exist"
    assert error_text(errno.EACCES) == "access denied"
    assert error_text(errno.EDEADLK) == "operation would cause deadlock"  # two names, one number, on Linux
    assert error_text(errno.EOPNOTSUPP) == "operation not supported"
    assert error_text(0) == "no error"
    assert error_text(99999) == "unknown error"


def test_a_full_disk_is_temporary_and_a_missing_file_is_not():
    assert is_temporary(errno.ENOSPC)
    assert is_temporary(errno.ECONNREFUSED)
    assert not is_temporary(errno.ENOENT)
    assert not is_temporary(None)
