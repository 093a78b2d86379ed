"""Reading a copied root: links stay inside, circles and pipes are named, and nothing blocks."""

from __future__ import annotations

import os

import pytest

from pluq.migrate.tree import DANGLING, FILE, FOLDER, LOOP, MISSING, OTHER, OUTSIDE, Tree


@pytest.fixture
def root(tmp_path):
    top = tmp_path / "root"
    (top / "a/b").mkdir(parents=True)
    (top / "a/file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    for name, target in {
        "absolute": "/a/file",
        "relative": "a/b/../file",
        "chain": "absolute",
        "circle": "circle",
        "there": "back",
        "back": "there",
        "dangling": "/a/none",
        "climbs": "../secret",
        "climbs-far": "a/../../../../../../../etc/passwd",
        "folder": "/a",
        "up": ".",
    }.items():
        (top / name).symlink_to(target)
    os.mkfifo(top / "pipe")
    return Tree(str(top))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/a/file", FILE),
        ("/absolute", FILE),
        ("/relative", FILE),
        ("/chain", FILE),
        ("/folder/file", FILE),
        ("/up/up/up/a/file", FILE),
        ("/a", FOLDER),
        ("/folder", FOLDER),
        ("/pipe", OTHER),
        ("/none", MISSING),
        ("/a/file/none", MISSING),
        ("/circle", LOOP),
        ("/there", LOOP),
        ("/dangling", DANGLING),
        ("/climbs", OUTSIDE),
        ("/climbs-far", OUTSIDE),
        ("/../secret", OUTSIDE),
    ],
)
def test_each_path_is_what_it_leads_to(root, path, kind):
    assert root.entry(path).kind == kind
    assert (root.read(path) is not None) is (kind == FILE)


def test_reads_are_bounded(root):
    assert root.read("/a/file", 3) == b"ins"


def test_names_that_no_file_system_has_are_no_error(root):
    assert root.read("/a\0b") is None
    assert root.entry("/" + "x" * 5000).kind != FILE
    assert root.names("/a/file") == []


def test_a_real_folder_has_no_links(root):
    assert root.real_folder("/folder/b") == "/a/b"
