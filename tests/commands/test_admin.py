"""pluq check, plugins, config: what an administrator sees before a reload."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that every user can reach: as root, plugins are looked at by the user that they will run as."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        made = run("init", "--home", f"{folder}/home")
        assert made.returncode == 0, made.stderr
        yield Path(folder, "home")


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from pluq.commands.pluq import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=60, check=False)


def test_a_fresh_home_has_nothing_wrong(home: Path) -> None:
    answer = run("check", "--home", str(home), "--json")
    assert (answer.returncode, json.loads(answer.stdout)) == (0, {"ok": True, "faults": []})


def test_every_fault_is_told_with_file_line_and_the_nearest_right_word(home: Path) -> None:
    (home / "control" / "pluq.toml").write_text(
        '[profile.mx]\nlisten = ["127.0.0.1:2525"]\nplugins = ["sise"]\n'
        '[profile.two]\nlisten = ["127.0.0.1:2525"]\nplugins = ["size"]\nsize.databyte = 3\n'
    )
    answer = run("check", "--home", str(home))
    assert answer.returncode == 1
    assert "pluq.toml:3: profile.mx.plugins: no plugin 'sise' is installed; did you mean 'size'?" in answer.stdout
    assert "pluq.toml:7: profile.two.size.databyte: unknown setting; did you mean 'databytes'?" in answer.stdout
    assert "profiles 'mx' and 'two' both listen on 127.0.0.1:2525" in answer.stdout


def test_a_plugin_in_a_place_where_it_does_nothing_is_a_warning(home: Path) -> None:
    (home / "control" / "pluq.toml").write_text('[remote]\nplugins = ["size", "rcptcheck"]\n')
    answer = run("check", "--home", str(home))
    assert answer.returncode == 0
    assert "warning: " in answer.stderr
    assert "pluq.toml:2: remote.plugins: 'rcptcheck' does nothing here; its place is a profile" in answer.stderr
    assert "'size'" not in answer.stderr


def test_plugins_shows_order_and_settings(home: Path) -> None:
    (home / "control" / "pluq.toml").write_text(
        '[profile.mx]\nplugins = ["size"]\n[remote]\nplugins = ["ipv6", "size"]\n'
    )
    overview = run("plugins", "--home", str(home)).stdout
    assert "[mx, remote]" in overview
    assert "order in remote: ipv6 size" in overview
    shown = json.loads(run("plugins", "--home", str(home), "--json", "size").stdout)
    assert [(one["name"], one["env"], one["unit"]) for one in shown[0]["settings"]] == [
        ("databytes", "DATABYTES", "bytes")
    ]
    assert "did you mean 'size'" in run("plugins", "--home", str(home), "sise").stderr


@pytest.mark.parametrize(
    ("text", "name", "key", "value", "source"),
    [
        ("[core]\nlocal_dates = true\n", "core", "local_dates", True, "pluq.toml:2"),
        ("", "core", "local_dates", False, "default"),
        ('[log]\nformat = "both"\n', "log", "format", "both", "pluq.toml:2"),
        ("[status]\ntodo_age = 5\n", "status", "todo_age", 5, "pluq.toml:2"),
        ('[remote]\nplugins = ["size"]\n', "remote", "plugins", ["size"], "pluq.toml:2"),
        ("", "remote", "plugins", [], "default"),
    ],
)
def test_config_shows_tables_of_the_core_and_roles(home: Path, text, name, key, value, source) -> None:
    (home / "control" / "pluq.toml").write_text(text)
    shown = json.loads(run("config", "show", name, "--home", str(home), "--json").stdout)[key]
    assert shown["value"] == value
    assert shown["source"].endswith(source)


def test_config_shows_where_each_value_came_from(home: Path) -> None:
    (home / "control" / "databytes").write_text("1000\n")
    (home / "control" / "pluq.toml").write_text(
        '[profile.mx]\nplugins = ["size"]\n[profile.own]\nextends = "mx"\nsize.databytes = 5\n'
    )
    from_file = json.loads(run("config", "show", "mx", "--home", str(home), "--json").stdout)
    assert from_file["size.databytes"] == {"value": 1000, "source": "control/databytes"}
    own = json.loads(run("config", "show", "own", "--home", str(home), "--json").stdout)["size.databytes"]
    assert own["value"] == 5
    assert own["source"].endswith("pluq.toml:5")
    from_base = json.loads(run("config", "show", "own", "--home", str(home), "--json").stdout)["plugins"]
    assert from_base["value"] == ["size"]
    assert from_base["source"].endswith("pluq.toml:2")
    assert "no profile 'mxx'; did you mean 'mx'?" in run("config", "show", "mxx", "--home", str(home)).stderr


def test_where_there_is_no_home_nothing_is_made(tmp_path: Path) -> None:
    for verb in ("serve", "check"):
        answer = run(verb, "--home", f"{tmp_path}/none")
        assert answer.returncode != 0
        said = (answer.stdout + answer.stderr).strip()
        assert said.endswith(f"{tmp_path}/none: no qmail home here: make one with `pluq init --home DIR`")
        assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_words_that_cannot_be_meant_are_refused_in_a_sentence(home: Path) -> None:
    for words, sentence in (
        (("dns", "bad domain"), "'bad domain' is no domain, such as example.org"),
        (("stats", "/nonexistent"), "pluq stats: /nonexistent: No such file or directory"),
        (("queue", "show", "x", "--home", str(home)), "'x' is no number of a message"),
        (("queue", "--home", str(home), "list"), "options come after the verb"),
        (("explain", "--session", "/nonexistent"), "pluq explain: /nonexistent: No such file or directory"),
        (("dkim", "keygen", "--home", "/nonexistent", "example.org"), "/nonexistent: no qmail home here"),
        (("config", "show", "mxx", "--home", str(home)), "no profile 'mxx'"),
    ):
        answer = run(*words)
        assert answer.returncode != 0
        assert sentence in answer.stderr
        assert "Traceback" not in answer.stderr


def test_addresses_that_are_none_and_toml_that_never_ends_have_their_line(home: Path) -> None:
    for text, fault in (
        ('listen = ["0.0.0.0"]', "pluq.toml:2: profile.mx.listen: "),
        ('listen = ["0.0.0.0:99999"]', "pluq.toml:2: profile.mx.listen: "),
        ('listen = ["0.0.0.0:25"', "pluq.toml:2: Unclosed array"),
    ):
        (home / "control" / "pluq.toml").write_text(f"[profile.mx]\n{text}\n\n")
        answer = run("check", "--home", str(home))
        assert answer.returncode == 1
        assert fault in answer.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be somebody else")
def test_whoever_may_not_look_is_told_so_without_a_traceback(home: Path) -> None:
    (home / "run").mkdir(exist_ok=True)
    for words in (["serve"], ["check"], ["queue", "list"], ["queue", "check"], ["init"]):
        code = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); from pluq.commands.pluq import main; sys.exit(main())"
        command = [sys.executable, "-c", code, *words, "--home", str(home)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")
        assert answer.returncode in (1, 111), words
        assert "Permission denied" in answer.stderr + answer.stdout, words
        assert "Traceback" not in answer.stderr, words
