"""Our own addresses: what the kernel says, and always 0.0.0.0."""

import shutil
import subprocess

import pytest

from pluq.config.ipme import my_addresses


def test_this_host_and_loopback_are_ours():
    assert {"0.0.0.0", "127.0.0.1"} <= my_addresses()


@pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2")
def test_all_addresses_of_interfaces_that_are_up_are_ours():
    lines = subprocess.run(["ip", "-4", "-o", "addr", "show", "up"], capture_output=True, check=True, text=True).stdout
    listed = {line.split()[3].partition("/")[0] for line in lines.splitlines()}
    assert my_addresses() == listed | {"0.0.0.0"}
