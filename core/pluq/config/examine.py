"""What is wrong with control/pluq.toml, all of it.

Reading the file stops at the first fault, which is enough for those who need a site that is right. Here what a fault names is taken
out of the document, and the rest is read again, until nothing more is found. A fault in `plugins` or `extends` ends this: without
them other settings would look wrong that are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pluq.config.home import Home
from pluq.config.site import Site, read_document, site_of
from pluq.config.table import Table
from pluq.errors import ConfigError
from pluq.store.control import read_file

CARRYING = ("plugins", "extends")
"""Keys that others depend on."""

Look = Callable[[Site], Iterable[ConfigError]]


def nothing_more(site: Site) -> Iterable[ConfigError]:
    return ()


def examine(home: Home, look: Look = nothing_more) -> tuple[Site, list[ConfigError]]:
    """Return the site without what is faulty in it, and every fault. `look` may find more in a site that could be read."""
    path = home.control("pluq.toml")
    try:
        data = read_file(path)
        if data is None:
            return Site(path), []
        top = read_document(path, data)
    except ConfigError as error:
        return Site(path), [error]
    found: dict[str, ConfigError] = {}
    while True:
        site, faults = _looked_at(top, look)
        new = {str(fault): fault for fault in faults if str(fault) not in found}
        found |= new
        taken = [_take_out(top.values, fault) for fault in new.values() if fault.file == path]
        if not any(taken):
            return site, list(found.values())


def _looked_at(top: Table, look: Look) -> tuple[Site, list[ConfigError]]:
    try:
        site = site_of(top)
    except ConfigError as error:
        return Site(top.file), [error]
    return site, list(look(site))


def _take_out(document: Any, fault: ConfigError) -> bool:
    """Remove what the fault names; say whether there was such a thing, and the rest can be read without it."""
    *tables, key = (fault.setting or "").split(".")
    for name in tables:
        document = document.get(name)
        if not isinstance(document, dict):
            return False
    return key not in CARRYING and document.pop(key, None) is not None
