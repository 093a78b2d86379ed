"""Every program and every control file has a man page, from one source, that man can show."""

import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from pluq.store.inventory import CORE, INVENTORY

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("build_man", ROOT / "docs" / "build_man.py")
build_man = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build_man)

PROGRAMS = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])
CONTROL_FILES = [
    name
    for file in INVENTORY
    if file.owner == CORE
    for name in file.names.split()
    if not name.endswith((".cdb", "/", "*"))
]
PAGES = {page.file_name: page for page in build_man.read_pages()}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_has_a_page(program):
    found = [PAGES[name] for name in (f"{program}.1", f"{program}.8") if name in PAGES]
    assert len(found) == 1
    assert found[0].headings()[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]


@pytest.mark.parametrize("name", CONTROL_FILES)
def test_every_control_file_has_a_page(name):
    page = PAGES[f"control-{name}.5"]
    assert page.headings()[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert f"    {name:<22}" in PAGES["qmail-control.5"].body


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_itself_and_only_pages_that_exist(name):
    page = PAGES[name]
    own = page.name.removeprefix("control-")
    line = page.body.split("## NAME\n\n")[1].split("\n")[0]
    assert line.startswith(f"{own} - ")
    see_also = page.body.partition("## SEE ALSO\n\n")[2].partition("\n\n")[0]
    for title, section in re.findall(r"([\w.+-]+)\(([1-8])\)", see_also):
        assert f"{title}.{section}" in PAGES or f"{title}({section})" in ELSEWHERE


ELSEWHERE = {
    "tcpserver(1)", "tcprules(1)", "setlock(1)", "syslogd(8)", "crontab(5)", "systemctl(1)", "systemd(1)", "svc(8)", "sv(8)", "supervise(8)",
}  # fmt: skip


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_formatted_without_a_warning(name):
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-rHY=0"],
        input=build_man.to_roff(PAGES[name]).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == b""


def test_markup_becomes_fonts_and_nothing_is_taken_for_a_request():
    page = build_man.Page(
        "x",
        "1",
        "\n## NAME\n\nx - y\n\n.dot `-n` *file* \\* it's\n\n`-a`\n:   a text\n    goes on\n\n    .shown\n\n- one\n  more\n- two\n",
        "x",
    )
    assert build_man.to_roff(page) == (
        '.TH x 1 "" pluq\n.SH "NAME"\n.PP\nx \\- y\n.PP\n\\&.dot \\fB\\-n\\fR \\fIfile\\fR * it\\(aqs\n'
        ".TP\n\\fB\\-a\\fR\na text goes on\n.PP\n.RS 4\n.nf\n\\&.shown\n.fi\n.RE\n.IP \\(bu 2\none more\n.IP \\(bu 2\ntwo\n"
    )


@pytest.mark.parametrize("block", ["text\n    code", "* list", "two\nlines\n: more", "text\n# title"])
def test_what_has_no_form_is_refused(block):
    with pytest.raises(build_man.SourceError):
        build_man.to_roff(build_man.Page("x", "1", block, "x"))


def test_the_pages_are_written_by_section(tmp_path):
    subprocess.run(["python3", ROOT / "docs" / "build_man.py", tmp_path], check=True)
    assert (tmp_path / "man8" / "qmail-inject.8").read_text().startswith(".TH qmail-inject 8")
    assert len(list(tmp_path.glob("man*/*"))) == len(PAGES)
