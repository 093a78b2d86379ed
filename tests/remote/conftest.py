"""A qmail home for deliveries, and the deliverer in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pluq.remote.deliver import Job
from pluq.testing.remote_home import RemoteHome, make_job


@pytest.fixture
def remote_home(tmp_path: Path) -> RemoteHome:
    return RemoteHome(tmp_path)


@pytest.fixture
def job() -> Callable[..., Job]:
    return make_job
