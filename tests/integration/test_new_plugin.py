"""A new author's first hour, as docs/writing-plugins.md has it: every command of the page, in its order, with its result."""

import os
import re
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

from pluq.testing.stack import BIN, PATIENCE, answers, free_port

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "writing-plugins.md"
# What the page calls pip installs into a folder of the test's own, without asking the network for anything.
PIP = """#!/bin/sh
shift
exec {python} -m pip install --quiet --no-build-isolation --no-deps --no-index --target {folder}/installed "$@"
"""


def block():
    """Return the commands of the page, and what the last one shows."""
    found = re.search(
        r"```sh\n(pluq plugin new .*?)```\n\nThe last command shows[^\n]*\n\n    ([^\n]+)", PAGE.read_text(), re.S
    )
    assert found is not None
    return [line for line in found[1].splitlines() if line], found[2]


@pytest.fixture
def environment(open_folder):
    pytest.importorskip("hatchling")
    (open_folder / "bin").mkdir()
    (open_folder / "bin" / "pip").write_text(PIP.format(python=sys.executable, folder=open_folder))
    (open_folder / "bin" / "pip").chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{open_folder}/bin:{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": f"{open_folder}/installed",
    }


def test_from_nothing_to_the_first_refusal(open_folder, environment, tool, until):
    tool("swaks", "swaks")
    commands, shown = block()
    port = free_port()
    commands = [one.replace("2525", str(port)) for one in commands]
    server = None
    try:
        for command in commands:
            if command.endswith("&"):
                server = subprocess.Popen(
                    ["bash", "-c", f"exec {command[:-1]}"], cwd=open_folder, env=environment, stderr=subprocess.DEVNULL
                )
                until(lambda: answers(port), "a greeting")
                continue
            done = subprocess.run(
                ["bash", "-c", command], cwd=open_folder, env=environment, capture_output=True, text=True, timeout=100
            )
            assert done.returncode == 0 or command == commands[-1], (command, done.stdout, done.stderr)
        assert shown in done.stdout
    finally:
        if server is not None:
            server.terminate()
            server.wait(PATIENCE)


def test_a_file_of_the_site_is_taken_anew_at_a_reload(new_stack, until):
    stack = new_stack()
    stack.listens_itself = True
    text = re.search(r"```python\n# plugins/nonames.py\n(.*?)```", PAGE.read_text(), re.S)[1]
    folder = Path(stack.home.path) / "plugins"
    folder.mkdir(exist_ok=True)
    (folder / "nonames.py").write_text(text)
    stack.control("pluq.toml", f'[profile.mx]\nlisten = ["127.0.0.1:{stack.port}"]\nplugins = ["nonames"]')
    stack.start()
    assert greeting(stack.port, "localhost") == b"please greet with your host name (#5.7.1)"
    (folder / "nonames.py").write_text(text.replace("please greet with your host name", "a bare word"))
    stack.process.send_signal(1)
    until(lambda: greeting(stack.port, "localhost") == b"a bare word (#5.7.1)", stack.told)
    (folder / "nonames.py").write_text("no Python at all")
    stack.process.send_signal(1)
    until(lambda: "SyntaxError" in stack.log.read_text(), stack.told)
    assert greeting(stack.port, "localhost") == b"a bare word (#5.7.1)"


def greeting(port, name):
    """Return what EHLO with this name is answered."""
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
        return client.docmd("EHLO", name)[1]
