"""A whole stack of real processes in a folder of the test's own, on a free port, and its peers."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from pluq.testing.stack import PATIENCE, Stack, wait_until


@pytest.fixture
def open_folder():
    """A folder that every user may pass through, as a home must be; pytest's own are closed to others."""
    folder = tempfile.mkdtemp(prefix="pluq-test.")
    os.chmod(folder, 0o755)
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_stack(open_folder):
    """Make stacks that are not started; what still runs at the end is ended."""
    made = []

    def make(single=False, name="pluq"):
        (open_folder / name).mkdir()
        made.append(Stack(open_folder / name, single))
        return made[-1]

    yield make
    for stack in made:
        if stack.runs:
            stack.process.terminate()
            stack.process.wait(PATIENCE)


@pytest.fixture
def stack(new_stack):
    """A running stack."""
    return new_stack().start()


@pytest.fixture
def until():
    """Wait for a condition: until(condition, what)."""
    return wait_until


@pytest.fixture
def tool():
    """Return the path of a program of Debian; the test is skipped where it is missing."""

    def find(name, package):
        path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
        if path is None:
            pytest.skip(f"needs {name} of Debian's {package}")
        return path

    return find
