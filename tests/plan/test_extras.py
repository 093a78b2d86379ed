"""Libraries that plugins need: those that are missing are named, with what installs them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from pluq.plan import extras

LINES = [
    "dnspython>=2.4",
    "pyspf>=2.0.14; extra == 'spf'",
    'scramp (>=1.4.5) ; extra == "auth"',
    "google-re2>=1.1; extra == 'badmail'",
    "h11>=0.14; extra == 'status'",
]
THERE = {"pyspf": "2.0.14", "scramp": "1.4.4", "h11": "0.16.0"}


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name not in THERE:
            raise PackageNotFoundError(name)
        return THERE[name]

    monkeypatch.setattr(extras, "requires", lambda package: LINES)
    monkeypatch.setattr(extras, "version", version)


def test_what_is_missing_or_old_is_told_for_the_plugins_that_are_enabled() -> None:
    assert list(extras.missing_libraries(["auth", "badmail", "spf", "own"])) == [
        "plugin 'auth': the library scramp is 1.4.4, and should be 1.4.5 at least; pip install 'pluq[auth]'",
        "plugin 'badmail': the library google-re2 is not installed; pip install 'pluq[badmail]'",
    ]
    assert list(extras.missing_libraries(["spf", "status"])) == []


def test_without_metadata_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(package: str) -> list[str]:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(extras, "requires", none)
    assert list(extras.missing_libraries(["badmail"])) == []
