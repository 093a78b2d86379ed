"""System errors in qmail's words.

Log readers and users of qmail know "file does not exist" rather than "No such file or directory"; and each program has to
know which errors go away by themselves.

Source: error_str.c and error_temp.c of qmail.
"""

from __future__ import annotations

import errno

__all__ = ["error_text", "is_temporary"]

# fmt: off
TEXTS: dict[str, str] = {
    "EINTR": "interrupted system call", "ENOMEM": "out of memory", "ENOENT": "file does not exist",
    "ETXTBSY": "text busy", "EIO": "input/output error", "EEXIST": "file already exists", "ETIMEDOUT": "timed out",
    "EINPROGRESS": "operation in progress", "EAGAIN": "temporary failure", "EPIPE": "broken pipe",
    "EPERM": "permission denied", "EACCES": "access denied", "ESRCH": "no such process", "ENXIO": "device not configured",
    "E2BIG": "argument list too long", "ENOEXEC": "exec format error", "EBADF": "file descriptor not open",
    "ECHILD": "no child processes", "EDEADLK": "operation would cause deadlock", "EFAULT": "bad address",
    "ENOTBLK": "not a block device", "EBUSY": "device busy", "EXDEV": "cross-device link",
    "ENODEV": "device does not support operation", "ENOTDIR": "not a directory", "EISDIR": "is a directory",
    "EINVAL": "invalid argument", "ENFILE": "system cannot open more files", "EMFILE": "process cannot open more files",
    "ENOTTY": "not a tty", "EFBIG": "file too big", "ENOSPC": "out of disk space", "ESPIPE": "unseekable descriptor",
    "EROFS": "read-only file system", "EMLINK": "too many links", "EDOM": "input out of range",
    "ERANGE": "output out of range", "EALREADY": "operation already in progress", "ENOTSOCK": "not a socket",
    "EDESTADDRREQ": "destination address required", "EMSGSIZE": "message too long", "EPROTOTYPE": "incorrect protocol type",
    "ENOPROTOOPT": "protocol not available", "EPROTONOSUPPORT": "protocol not supported",
    "ESOCKTNOSUPPORT": "socket type not supported", "EOPNOTSUPP": "operation not supported",
    "EPFNOSUPPORT": "protocol family not supported", "EAFNOSUPPORT": "address family not supported",
    "EADDRINUSE": "address already used", "EADDRNOTAVAIL": "address not available", "ENETDOWN": "network down",
    "ENETUNREACH": "network unreachable", "ENETRESET": "network reset", "ECONNABORTED": "connection aborted",
    "ECONNRESET": "connection reset", "ENOBUFS": "out of buffer space", "EISCONN": "already connected",
    "ENOTCONN": "not connected", "ESHUTDOWN": "socket shut down", "ETOOMANYREFS": "too many references",
    "ECONNREFUSED": "connection refused", "ELOOP": "symbolic link loop", "ENAMETOOLONG": "file name too long",
    "EHOSTDOWN": "host down", "EHOSTUNREACH": "host unreachable", "ENOTEMPTY": "directory not empty",
    "EUSERS": "too many users", "EDQUOT": "disk quota exceeded", "ESTALE": "stale NFS file handle",
    "EREMOTE": "too many levels of remote in path", "ENOLCK": "no locks available",
    "ENOSYS": "system call not available", "ENOSTR": "not a stream device", "ETIME": "timer expired",
    "ENOSR": "out of stream resources", "ENOMSG": "no message of desired type", "EBADMSG": "bad message type",
    "EIDRM": "identifier removed", "ENONET": "machine not on network", "ENOLINK": "link severed",
    "EADV": "advertise error", "ESRMNT": "srmount error", "ECOMM": "communication error", "EPROTO": "protocol error",
    "EMULTIHOP": "multihop attempted", "EREMCHG": "remote address changed",
}

TEMPORARY_NAMES = (
    "EINTR", "ENOMEM", "ETXTBSY", "EIO", "ETIMEDOUT", "EWOULDBLOCK", "EAGAIN", "EDEADLK", "EBUSY", "ENFILE", "EMFILE",
    "EFBIG", "ENOSPC", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ECONNABORTED", "ECONNRESET", "ENOBUFS", "ETOOMANYREFS",
    "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "EPROCLIM", "EUSERS", "EDQUOT", "ESTALE", "ENOLCK",
)
# fmt: on


TEXT_OF = {getattr(errno, name): text for name, text in TEXTS.items() if hasattr(errno, name)}
TEMPORARY = frozenset(getattr(errno, name) for name in TEMPORARY_NAMES if hasattr(errno, name))


def error_text(number: int | None) -> str:
    """Return qmail's words for an errno value; "unknown error" for one that qmail does not name."""
    return TEXT_OF.get(number, "unknown error") if number else "no error"


def is_temporary(number: int | None) -> bool:
    """Say whether a system error may be gone at the next try."""
    return number in TEMPORARY
