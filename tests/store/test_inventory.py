from __future__ import annotations

import pytest

from pluq.store.inventory import CORE, INVENTORY, NONE, SERVICE, find_control_file


def test_no_name_stands_twice() -> None:
    names = [name for entry in INVENTORY for name in entry.names.split()]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("me", CORE),
        ("badrcptto", "badmail"),
        ("servercerts", "tls"),
        ("outgoingip.example.org", "bind"),
        ("ldapserver", NONE),
        ("suppls0", NONE),
        ("defaultdelivery", SERVICE),
    ],
)
def test_a_file_is_found_by_name_folder_or_family(name: str, owner: str) -> None:
    entry = find_control_file(name)
    assert entry is not None and entry.owner == owner


def test_an_unknown_file_is_unknown() -> None:
    assert find_control_file("badrcpttoo") is None
    assert find_control_file("") is None
