"""pluq auth passwd: who may log in, and with which password.

    pluq auth passwd [--home DIR] [--file FILE] [--delete] USER

Asks for the password twice; without a terminal it is the first line of standard input. It is never taken from the command line, where
everybody could see it. The file is replaced as a whole, so that a server that reads it meanwhile sees the old or the new one.

Source: see pluq_auth.users for the form of the file.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import getpass
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pluq.config import Home
from pluq.errors import ConfigError
from pluq.store.durable import fsync_dir, write_all
from pluq_auth import hashes
from pluq_auth.dialogue import Malformed, check_name
from pluq_auth.users import SALT_BYTES, parse_users

DEFAULT_FILE = "control/passwords"
MAX_PASSWORD = 256  # with a name, this must fit into the 512 bytes of checkpassword, should the site change to one


def passwd(argv: Sequence[str]) -> int:
    """Set the password with which a user logs in to send mail."""
    parser = argparse.ArgumentParser(
        prog="pluq auth passwd", description="Set the password with which a user logs in to send mail."
    )
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument("--file", metavar="FILE", help=f"the file of passwords (default: {DEFAULT_FILE})")
    parser.add_argument("--delete", action="store_true", help="take the user out")
    parser.add_argument("user", metavar="USER", help="the name to log in with, as joe or joe@example.org")
    options = parser.parse_args(argv)
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    path = os.path.join(home.path, options.file or DEFAULT_FILE)
    try:
        return change(home, path, os.fsencode(options.user), options.delete)
    except ValueError as error:
        return complain(100, str(error))
    except ConfigError as error:
        return complain(111, str(error))
    except OSError as error:
        return complain(111, f"{error.filename or path}: {os.strerror(error.errno or 0)}")


def complain(code: int, text: str) -> int:
    sys.stderr.write(f"pluq auth passwd: {text}\n")
    return code


def change(home: Home, path: str, name: bytes, is_deletion: bool) -> int:
    """Write the file anew. Raises ValueError, ConfigError, OSError."""
    try:
        check_name(name)
    except Malformed:
        name = b""
    if not name or b":" in name or name.startswith(b"#"):
        raise ValueError("a user's name has no colon and no control characters, and does not begin with #")
    line = b"" if is_deletion else new_line(name, ask_password())
    with locked(path):
        old = read(path)
        parse_users(path, old)  # a faulty file is not made worse
        lines = [one for one in old.splitlines(keepends=True) if one.partition(b":")[0] != name]
        if is_deletion and len(lines) == len(old.splitlines()):
            return complain(100, f"there is no user {os.fsdecode(name)}")
        replace(home, path, b"".join(lines) + line)
    return 0


def read(path: str) -> bytes:
    """Return the file as it stands; a new one begins with a seed."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return b":" + base64.b64encode(os.urandom(SALT_BYTES)) + b"\n"
    return data if data.endswith(b"\n") or not data else data + b"\n"


def ask_password() -> str:
    """Return the password that somebody types, twice the same, or that is piped in. Raises ValueError."""
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("The same again: "):
            raise ValueError("these two are not the same")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password or "\0" in password or len(password.encode()) > MAX_PASSWORD:
        raise ValueError(f"a password has 1 to {MAX_PASSWORD} bytes")
    return password


def new_line(name: bytes, password: str) -> bytes:
    """Return the line of a user; with keys for SCRAM-SHA-256 where the library is installed and the password has a form for it."""
    line = name + b":" + hashes.hash_password(password.encode())
    try:
        from pluq_auth.scram import make_keys

        return line + b":" + make_keys(password).line() + b"\n"
    except (ImportError, ValueError) as error:
        sys.stderr.write(f"pluq auth passwd: no SCRAM-SHA-256 with this password: {error}\n")
        return line + b"\n"


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep other writers of the same folder out."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def replace(home: Home, path: str, data: bytes) -> None:
    """Put a new file in the place of the old one, readable by its owner and the group of the SMTP server alone."""
    temporary = path + ".tmp"
    ids = home.ids()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not ids.single:
            os.fchown(fd, 0, ids.gid["nofiles"])
            os.fchmod(fd, 0o640)
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    fsync_dir(os.path.dirname(path))
