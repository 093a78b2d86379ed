"""One running stack for all attacks of a module, with a next hop that records every byte."""

import contextlib
import os
import shutil
import tempfile

import pytest

from pluq.testing.smtp_peer import SmtpPeer
from pluq.testing.stack import PATIENCE, Stack

FAR = "far.example"


@pytest.fixture(scope="module")
def far():
    """The next hop for far.example."""
    with SmtpPeer() as peer:
        yield peer


@pytest.fixture(scope="module")
def stack(far):
    folder = tempfile.mkdtemp(prefix="pluq-test.")
    os.chmod(folder, 0o755)
    made = Stack(folder)
    # Double bounces go to a host that is not ours: nothing may ask the real DNS.
    made.control("smtproutes", f":127.0.0.1:{far.port}")
    made.control("rcpthosts", f"example.org\n{FAR}")
    try:
        yield made.start()
    finally:
        if made.runs:
            made.process.terminate()
            made.process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_stack():
    """Makes a stack that is not started, for a test that needs settings of its own."""
    return fresh_stack


@contextlib.contextmanager
def fresh_stack():
    folder = tempfile.mkdtemp(prefix="pluq-test.")
    os.chmod(folder, 0o755)
    made = Stack(folder)
    try:
        yield made
    finally:
        if made.runs:
            made.kill()
        shutil.rmtree(folder, ignore_errors=True)
