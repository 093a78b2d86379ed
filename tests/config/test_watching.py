"""[log] and [status]: what a site may say, and that a page without a password is not shown to others by mistake."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pluq.config.site import parse_site
from pluq.config.watching import Status, check_status
from pluq.errors import ConfigError


def site(text):
    return parse_site("pluq.toml", text.encode())


def test_without_the_tables_the_log_is_qmails_and_there_is_no_page():
    assert site("").log.format == "qmail"
    assert site("").status == Status()
    assert site("[status]\ndisk_free = 9\n").status.listen == ""


@pytest.mark.parametrize("listen", ["127.0.0.1:8025", "[::1]:8025", "127.9.9.9:1", "/run/pluq/status"])
def test_loopback_addresses_and_paths_are_taken(listen):
    assert site(f'[status]\nlisten = "{listen}"').status.listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:8025", "192.0.2.1:80", "[::]:8025", "[2001:db8::1]:80"])
def test_an_address_for_others_needs_a_word_of_the_administrator(listen):
    with pytest.raises(ConfigError, match=r"pluq\.toml:2: status\.listen: .* can be reached by others"):
        site(f'[status]\nlisten = "{listen}"')
    assert site(f'[status]\nlisten = "{listen}"\nopen = true').status.listen == listen


@pytest.mark.parametrize("listen", ["8025", "localhost:8025", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "x:y"])
def test_what_is_no_address_is_told(listen):
    with pytest.raises(ConfigError, match="is no address with a port"):
        site(f'[status]\nlisten = "{listen}"')


def test_a_misspelt_setting_is_told_with_its_line():
    with pytest.raises(ConfigError, match=r"pluq\.toml:3: status\.adresses: unknown setting; did you mean 'addresses'"):
        site('[status]\nlisten = "127.0.0.1:1"\nadresses = true')
    with pytest.raises(ConfigError, match=r"log\.format: 'xml' is none of qmail, json, both"):
        site('[log]\nformat = "xml"')


def test_what_is_missing_on_this_machine_is_told_before_a_start(monkeypatch):
    wanted = Status(listen="127.0.0.1:8025")
    check_status(Status(user="nobody-of-this-name"), "pluq.toml", single=False)  # no page, nothing to check
    with pytest.raises(ConfigError, match=r"status\.user: there is no user 'nobody-of-this-name'"):
        check_status(replace(wanted, user="nobody-of-this-name"), "pluq.toml", single=False)
    with pytest.raises(ConfigError, match="does not run as root"):
        check_status(replace(wanted, user="root"), "pluq.toml", single=False)
    check_status(replace(wanted, user="root"), "pluq.toml", single=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"the package h11 is missing: install pluq\[status\]"):
        check_status(wanted, "pluq.toml", single=True)
