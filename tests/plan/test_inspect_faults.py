"""What `pluq check` says of pluq.toml and its plugins: all of it, each with file, line and setting."""

from pathlib import Path

import pytest

from pluq.config import Home
from pluq.plan import inspect


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    Path(tmp_path, "control/me").write_text("mail.example.org\n")
    return Home(str(tmp_path))


def faults(home: Home, text: str) -> list[str]:
    Path(home.control("pluq.toml")).write_text(text)
    return [fault.replace(f"{home.control_dir}/", "") for fault in inspect.faults(home)]


def test_mistakes_of_several_profiles_and_plugins_are_told_together(home: Home) -> None:
    assert faults(
        home,
        """\
[profile.mx]
listen = ["192.0.2.1:25"]
plugins = ["size", "tls", "spf"]
size.databytes = "10M"
spf.behaviour = 3
spf.mode = "on"
tls.certificate = "control/elsewhere.pem"

[profile.two]
listen = ["192.0.2.1:25"]
plugins = ["tarpit"]

[plugin.dnsbl]
lists = []

[remote]
plugins = ["tsl"]
""",
    ) == [
        "pluq.toml:4: profile.mx.size.databytes: expected a whole number",
        "pluq.toml:17: remote.plugins: no plugin 'tsl' is installed; did you mean 'tls'?",
        "pluq.toml:5: profile.mx.spf.behaviour: unknown setting; did you mean 'behavior'?",
        "pluq.toml:6: profile.mx.spf.mode: 'on' is none of enforce, shadow, off",
        "pluq.toml:10: profile.two.listen: profiles 'mx' and 'two' both listen on 192.0.2.1:25",
        "pluq.toml:13: plugin.dnsbl: no profile or role enables it",
    ]


ROLES_TOML = """\
[profile.mx]
plugins = ["size", "srs", "taps", "watch", "dane"]
[queue]
plugins = ["taps", "bounce"]
[send]
plugins = ["bounce", "srs"]
[local]
plugins = ["srs", "quota", "watch"]
[remote]
plugins = ["ipv6", "size", "tls", "dkim", "spf"]
"""
WATCH = """\
from pluq import Plugin, hook


class Watch(Plugin):
    name = "watch"

    @hook
    def observe(self, event): ...
"""


def test_a_plugin_that_is_asked_nothing_in_its_place_is_told(home: Home) -> None:
    Path(home.plugins).mkdir()
    Path(home.plugins, "watch.py").write_text(WATCH)
    Path(home.control("pluq.toml")).write_text(ROLES_TOML)
    assert [told.replace(f"{home.control_dir}/", "") for told in inspect.idle_plugins(home)] == [
        "pluq.toml:2: profile.mx.plugins: 'taps' does nothing here; its place is [queue]",
        "pluq.toml:2: profile.mx.plugins: 'dane' does nothing here; its place is [remote]",
        "pluq.toml:4: queue.plugins: 'bounce' does nothing here; its place is [send]",
        "pluq.toml:10: remote.plugins: 'spf' does nothing here; its place is a profile",
    ]


def test_what_a_plugin_says_of_its_settings_is_told_once_they_can_be_read(home: Home) -> None:
    text = '[profile.mx]\nplugins = ["tls"]\ntls.certificate = "control/elsewhere.pem"\n'
    line = f"mx: pluq.toml:3: tls.certificate: {home.control('elsewhere.pem')}: there is no such file"
    assert faults(home, text) == [line.replace(f"{home.control_dir}/", "")]
    assert faults(home, text + "tls.minimum = 1\n") == ["pluq.toml:4: profile.mx.tls.minimum: expected text in quotes"]


def test_rules_that_a_profile_names_have_to_be_there(home: Home) -> None:
    text = '[profile.mx]\nrules = "tcp.mx"\n[profile.two]\nextends = "mx"\n[profile.three]\n'
    line = "pluq.toml:2: profile.mx.rules: tcp.mx is not there"
    assert faults(home, text) == [line]
    Path(home.control("tcp.mx.cdb")).touch()
    assert faults(home, text) == []
