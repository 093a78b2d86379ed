"""`pluq` itself: verbs are listed, found, and refused."""

import sys

import pytest

from pluq.commands import pluq


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["pluq", *words])
        code = pluq.main()
        return code, *capsys.readouterr()

    return run


def test_help_lists_every_verb_with_a_line(call):
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    for verb, line in pluq.VERBS.items():
        assert f"  {verb}" in out
        assert line in " ".join(out.split())


@pytest.mark.parametrize("words", [(), ("frobnicate",), ("--frobnicate",)])
def test_without_a_verb_it_says_which_there_are(call, words):
    code, out, err = call(*words)
    assert (code, out) == (100, "")
    assert "  serve" in err


def test_version(call):
    code, out, _ = call("--version")
    assert code == 0
    assert out.startswith("pluq ")


def test_a_verb_gets_its_arguments(call, tmp_path):
    code, out, _ = call("check", "--home", str(tmp_path / "nowhere"))
    assert code == 1
    assert "pluq init" in out


PLUGIN = '''
from pluq import Plugin

def greet(arguments):
    """Say hello."""
    print("hello", *arguments)
    return 3

class Greeter(Plugin):
    """A plugin with a command."""
    name = "greeter"

    @classmethod
    def cli_commands(cls):
        return {"greet": greet}
'''


def test_a_plugin_has_commands_of_its_own(call, tmp_path, monkeypatch):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "greeter.py").write_text(PLUGIN)
    monkeypatch.setenv("PLUQ_HOME", str(tmp_path))
    assert call("greeter", "greet", "joe") == (3, "hello joe\n", "")
    code, out, _ = call("greeter", "--help")
    assert code == 0
    assert "greet  Say hello." in out
    code, out, err = call("greeter", "great")
    assert (code, out) == (100, "")
    assert "no command 'great'; did you mean 'greet'?" in err


def test_a_plugin_that_cannot_be_loaded_says_so(call, tmp_path, monkeypatch):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "broken.py").write_text("raise RuntimeError('no')\n")
    monkeypatch.setenv("PLUQ_HOME", str(tmp_path))
    code, _, err = call("broken", "greet")
    assert code == 111
    assert "RuntimeError" in err
