"""Becoming a qmail user is complete and final."""

import os
import subprocess
import sys

import pytest

from pluq.config import qmail_ids
from pluq.supervisor.privileges import become, current_identity

ROOT = pytest.mark.skipif(qmail_ids().single, reason="needs root and the qmail users")

SCRIPT = """
import os
from pluq.config import qmail_ids
from pluq.supervisor.privileges import become, user_identity
ids = qmail_ids()
become(user_identity(ids.uid["qmailr"], ids.gid["qmail"]))
assert os.getresuid() == (ids.uid["qmailr"],) * 3
assert os.getresgid() == (ids.gid["qmail"],) * 3
assert 0 not in os.getgroups()
for way_back in (os.setuid, os.seteuid, os.setgid, os.setegid):
    try:
        way_back(0)
    except PermissionError:
        continue
    raise SystemExit(f"{way_back.__name__} leads back")
print("gone for good")
"""


@ROOT
def test_there_is_no_way_back_to_root():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("gone for good\n", "")


def test_staying_who_one_is_needs_no_privilege():
    before = current_identity()
    become(before)
    assert current_identity() == before
    assert before.uid == os.getuid()
