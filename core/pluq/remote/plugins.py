"""The plugins of remote delivery: `[remote]` in control/pluq.toml. Without that file nothing is imported for them."""

from __future__ import annotations

import os
from collections.abc import Callable

from pluq.config import Home
from pluq.plan import EMPTY, Plan


def load_plan(home: Home, log: Callable[[str], None]) -> Plan:
    """Return the compiled plan of the role. Raises ConfigError."""
    if not os.path.exists(home.control("pluq.toml")):
        return EMPTY
    from pluq.config.site import read_site
    from pluq.plan.compile import compile_plan

    return compile_plan(home, read_site(home), "remote", role="remote", log=log)
