"""Our own addresses: what the kernel says, and always 0.0.0.0."""

import shutil
import subprocess

import pytest

from pluq.config.ipme import Ourselves, my_addresses, our_addresses
from pluq.errors import ConfigError
from pluq.store.control import ControlFiles


def test_this_host_and_loopback_are_ours():
    assert {"0.0.0.0", "127.0.0.1"} <= my_addresses()


@pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2")
def test_all_addresses_of_interfaces_that_are_up_are_ours():
    lines = subprocess.run(["ip", "-4", "-o", "addr", "show", "up"], capture_output=True, check=True, text=True).stdout
    listed = {line.split()[3].partition("/")[0] for line in lines.splitlines()}
    assert my_addresses() == listed | {"0.0.0.0"}


@pytest.fixture
def controls(tmp_path):
    def make(**files):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        return ControlFiles(str(tmp_path))

    return make


def test_without_the_files_only_interfaces_count(controls):
    assert our_addresses(controls()) == my_addresses()


def test_the_longest_mask_counts_and_notipme_wins_ties(controls):
    ours = our_addresses(
        controls(
            moreipme="192.0.2.0/24\n198.51.100.7\n203.0.113.0/255.255.255.0\n",
            notipme="192.0.2.128/25\n198.51.100.7\n0.0.0.0/0\n",
        )
    )
    assert isinstance(ours, Ourselves)
    assert "192.0.2.1" in ours
    assert "192.0.2.129" not in ours
    assert "198.51.100.7" not in ours
    assert "203.0.113.9" in ours
    assert "8.8.8.8" not in ours
    assert "nonsense" not in ours
    assert "2001:db8::1" not in ours


def test_loopback_is_ours_whatever_the_files_say(controls):
    ours = our_addresses(controls(notipme="127.0.0.0/8\n0.0.0.0\n"))
    assert {"127.0.0.1", "127.9.9.9", "0.0.0.0"} <= {
        one for one in ("127.0.0.1", "127.9.9.9", "0.0.0.0") if one in ours
    }


def test_an_interface_that_notipme_lists_is_not_ours(controls):
    others = sorted(my_addresses() - {"0.0.0.0", "127.0.0.1"})
    if not others:
        pytest.skip("this machine has no address but loopback")
    assert others[0] not in our_addresses(controls(notipme=others[0]))


def test_a_line_that_is_no_address_names_its_file(controls):
    with pytest.raises(ConfigError, match=r"moreipme.*no address"):
        our_addresses(controls(moreipme="300.1.1.1\n"))
