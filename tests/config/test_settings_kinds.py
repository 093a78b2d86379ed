"""Settings of every kind: what each place gives, values of any type, and words for what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

import pytest

from pluq import setting
from pluq.config.settings import Resolved, declarations, plain, resolve
from pluq.config.site import Table
from pluq.errors import ConfigError
from pluq.store.control import ControlFiles


def at_most_a_hundred(value: int) -> int:
    if value > 100:
        raise ValueError("expected 100 at most")
    return value


def duration(text: str) -> timedelta:
    number, unit = text[:-1], text[-1:]
    if unit not in ("s", "m") or not number.isdigit():
        raise ValueError(f"{text!r} is no time such as 90s or 5m")
    return timedelta(seconds=int(number) * (60 if unit == "m" else 1))


@dataclass(frozen=True)
class Settings:
    networks: tuple[IPv4Network, ...] = setting((), parse=ip_network, control="nets", env="NETS", help="Networks.")
    percent: int = setting(50, parse=at_most_a_hundred, env="PERCENT", help="A share.")
    wait: timedelta = setting(timedelta(0), parse=duration, help="A time.")  # noqa: RUF009
    relays: Mapping[str, str] = setting({}, control="relays", env="RELAYS", help="Domains and their relays.")
    times: Mapping[str, timedelta] = setting({}, parse=duration, help="Domains and their times.")


def settings_of(tmp_path: Path, **values: Any) -> Resolved:
    lines = {f"plugin.x.{name}": number for number, name in enumerate(values, 2)}
    return resolve(Settings, ControlFiles(str(tmp_path)), [Table("pluq.toml", "plugin.x", values, lines)])


def test_a_value_may_be_of_any_type(tmp_path: Path) -> None:
    found = settings_of(tmp_path, networks=["10.0.0.0/8"], wait="5m", relays={"a.example": "relay"}, times={"b": "2s"})
    assert found.settings == Settings(
        (IPv4Network("10.0.0.0/8"),), 50, timedelta(minutes=5), {"a.example": "relay"}, {"b": timedelta(seconds=2)}
    )


def test_control_files_and_variables_are_parsed_as_well(tmp_path: Path) -> None:
    (tmp_path / "nets").write_text("10.0.0.0/8\n# none\n192.0.2.0/24\n")
    (tmp_path / "relays").write_text("a.example:one:26\n:two\n")
    found = settings_of(tmp_path)
    assert found.settings.networks == (IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.0/24"))
    assert found.settings.relays == {"a.example": "one:26", "": "two"}
    there, complaints = found.overlay({"NETS": "172.16.0.0/12", "RELAYS": "b:three"})
    assert (there.networks, there.relays, complaints) == ((IPv4Network("172.16.0.0/12"),), {"b": "three"}, [])


def test_what_does_not_fit_is_an_error_with_its_line(tmp_path: Path) -> None:
    for values, words in (
        ({"networks": ["10.0.0.0/33"]}, "pluq.toml:2: plugin.x.networks: '10.0.0.0/33' does not appear"),
        ({"percent": 101}, "pluq.toml:2: plugin.x.percent: expected 100 at most"),
        ({"wait": "soon"}, "pluq.toml:2: plugin.x.wait: 'soon' is no time such as 90s or 5m"),
        ({"wait": 5}, "pluq.toml:2: plugin.x.wait: expected text in quotes"),
        ({"relays": ["a"]}, "pluq.toml:2: plugin.x.relays: expected a table of texts"),
        ({"relays": {"a": 1}}, "pluq.toml:2: plugin.x.relays: expected a table of texts"),
    ):
        with pytest.raises(ConfigError) as caught:
            settings_of(tmp_path, **values)
        assert words in str(caught.value)


def test_a_variable_that_does_not_fit_is_told_and_left(tmp_path: Path) -> None:
    found, complaints = settings_of(tmp_path, percent=7).overlay({"PERCENT": "300"})
    assert found.percent == 7
    assert complaints == ["$PERCENT: expected 100 at most"]


def test_variables_that_do_not_fit_together_are_told_and_left() -> None:
    @dataclass(frozen=True)
    class Range:
        low: int = setting(1, env="LOW", help="The lowest.")
        high: int = setting(5, env="HIGH", help="The highest.")

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    found, complaints = resolve(Range, ControlFiles("/nonexistent"), []).overlay({"LOW": "9"})
    assert (found, complaints) == (Range(), ["low is above high"])


def test_a_table_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        settings_of(tmp_path, relays={"a": "b"}).settings.relays["a"] = "c"


def test_values_of_any_type_can_be_shown() -> None:
    shown = plain((IPv4Network("10.0.0.0/8"), {"a": timedelta(seconds=2)}, None, True, 3, "x"))
    assert shown == ["10.0.0.0/8", {"a": "0:00:02"}, None, True, 3, "x"]


def test_a_type_that_nobody_parses_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd:
        wait: timedelta = setting(timedelta(0), help="A time.")  # noqa: RUF009

    with pytest.raises(TypeError, match=r"Odd\.wait: .* any other type needs parse="):
        declarations(Odd)
