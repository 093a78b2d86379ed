"""A fresh qmail home whose queue everything here writes to."""

import os

import pytest

from pluq.config import Home, current_ids
from pluq.queue.layout import QueueLayout
from pluq.supervisor.hier import make_home


@pytest.fixture
def home(tmp_path):
    home = Home(str(tmp_path / "home"))
    make_home(home, current_ids())
    os.makedirs(home.run, exist_ok=True)
    return home


@pytest.fixture
def layout(home):
    return QueueLayout(home.queue)
