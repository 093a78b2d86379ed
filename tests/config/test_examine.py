"""control/pluq.toml, examined: every fault at once, and none that only another one makes."""

import pytest

from pluq.config.examine import examine
from pluq.config.home import Home
from pluq.errors import ConfigError

FAULTY = """\
[profil.old]
x = 1

[profile.mx]
listen = ["192.0.2.1:25"]
concurrency = "many"
plugins = ["spf"]
tls.required = true

[core]
local_date = true

[profile.submission]
extends = "mx"
per_address = -1
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "control").mkdir()
    return Home(str(tmp_path))


def told(home, text, *look):
    with open(home.control("pluq.toml"), "w") as file:
        file.write(text)
    site, faults = examine(home, *look)
    return site, [str(fault).removeprefix(f"{home.control_dir}/") for fault in faults]


def test_every_fault_is_told_and_the_rest_is_a_site(home):
    site, faults = told(home, FAULTY)
    assert faults == [
        "pluq.toml:1: profil: unknown table; did you mean 'profile'?",
        "pluq.toml:11: core.local_date: unknown setting; did you mean 'local_dates'?",
        "pluq.toml:8: profile.mx.tls: settings of a plugin that is not in plugins",
        "pluq.toml:6: profile.mx.concurrency: expected a whole number",
        "pluq.toml:15: profile.submission.per_address: expected a number that is not negative",
    ]
    assert site.profiles["mx"].listen == ("192.0.2.1:25",)
    assert site.profiles["submission"].plugins == ("spf",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[profile.mx]\nplugins = "tls"\ntls.required = true\n', "pluq.toml:2: profile.mx.plugins: expected a list"),
        ('[profile.mx]\nextends = "base"\nspf.behavior = 3\n', "pluq.toml:2: profile.mx.extends: no profile 'base'"),
        ("[profile.mx\n", "pluq.toml:1: Expected ']'"),
    ],
)
def test_what_carries_others_is_the_last_fault_that_is_told(home, text, fault):
    _, faults = told(home, text)
    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_what_is_found_in_a_readable_site_is_taken_out_as_well(home):
    def look(site):
        for name in ("limit", "other"):
            if name in site.profiles["mx"].tables[0].values["spf"]:
                yield ConfigError(site.file, "wrong", 3, f"profile.mx.spf.{name}")
                return

    _, faults = told(home, '[profile.mx]\nplugins = ["spf"]\nspf.limit = 1\nspf.other = 2\n', look)
    assert faults == ["pluq.toml:3: profile.mx.spf.limit: wrong", "pluq.toml:3: profile.mx.spf.other: wrong"]


def test_a_fault_of_another_file_ends_it(home):
    def look(site):
        yield ConfigError(home.control("spfbehavior"), "not a number", 1, "profile.mx.plugins")

    _, faults = told(home, '[profile.mx]\nplugins = ["spf"]\n', look)
    assert faults == ["spfbehavior:1: profile.mx.plugins: not a number"]


def test_no_file_is_stock_qmail(home):
    site, faults = examine(home)
    assert (site.profiles, faults) == ({}, [])
