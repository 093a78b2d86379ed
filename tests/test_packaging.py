"""What is in the tree is what gets installed: a forgotten line would leave a plugin or a program out silently."""

import ast
import importlib
import importlib.util
import os
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS = PROJECT["project"]["scripts"]
ENTRY_POINTS = PROJECT["project"]["entry-points"]["pluq.plugins"]
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def plugin_folders():
    return sorted(path.name for path in (ROOT / "plugins").iterdir() if any(path.glob("pluq_*/__init__.py")))


def test_every_plugin_folder_is_packaged_and_found():
    folders = plugin_folders()
    assert sorted(PACKAGES) == sorted(["core/pluq", *(f"plugins/{name}/pluq_{name}" for name in folders)])
    assert sorted(ENTRY_POINTS) == folders


@pytest.mark.parametrize("name", plugin_folders())
def test_a_plugin_has_a_readme_and_tests(name):
    folder = ROOT / "plugins" / name
    assert (folder / "README.md").is_file()
    assert list((folder / "tests").glob("test_*.py"))


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_program_has_its_module(name):
    module, _, function = SCRIPTS[name].partition(":")
    assert function == "main"
    assert importlib.util.find_spec(module) is not None


def test_scripts_are_sorted():
    assert list(SCRIPTS) == sorted(SCRIPTS)


def test_every_verb_has_its_module():
    from pluq.commands.pluq import VERBS

    for verb in VERBS:
        assert callable(importlib.import_module(f"pluq.commands.{verb.replace('-', '_')}").main)


def test_test_files_have_unique_names():
    """pytest imports them by name alone."""
    names = [path.name for folder in ("tests", "plugins") for path in (ROOT / folder).rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_module_of_the_core_imports_the_tests_kit():
    """pluq.testing is for tests of ours and of plugin authors; the program does not need it."""
    for path in (ROOT / "core" / "pluq").rglob("*.py"):
        if "testing" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("pluq.testing"), path


@pytest.mark.parametrize("name", ["quickstart", "runtests", ".ci/run", "bench/run"])
def test_the_commands_for_strangers_can_be_run(name):
    assert os.access(ROOT / name, os.X_OK)
