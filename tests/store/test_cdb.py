"""cdb files: byte for byte those of cdbmake, readable by anybody's tools, harmless when broken."""

import hashlib
import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ConfigError
from pluq.store.cdb import Cdb, cdb_hash, write_cdb

needs_tcprules = pytest.mark.skipif(not shutil.which("tcprules"), reason="needs Debian's ucspi-tcp")
needs_tinycdb = pytest.mark.skipif(not shutil.which("cdb"), reason="needs Debian's tinycdb")

pairs_of_bytes = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40)), max_size=60)


def written(tmp_path, pairs):
    path = str(tmp_path / "x.cdb")
    write_cdb(path, pairs)
    return path


@pytest.mark.parametrize(
    ("keys", "sha256"),
    [
        ([b"a.example", b".b.example"], "ce3a02ab3d053a2d4290f55ea99c966f8c5b2d3e16b0029c750e518684d7a1f6"),
        ([], "ad292543e381bc50175b6b6452ccc06e579755910a528c8dc7d18019279e1f3f"),
        ([b"a", b"a"], "b98a9997acad694ab2634cc7bea0a9db62ae0c3aa0f15d20a566f487cef552ac"),
    ],
)
def test_bytes_are_those_of_notqmail(tmp_path, keys, sha256):
    path = written(tmp_path, [(key, b"") for key in keys])
    with open(path, "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == sha256


def test_hash_of_the_empty_key_is_the_start_value():
    assert cdb_hash(b"") == 5381


@given(pairs=pairs_of_bytes)
def test_every_record_is_found_and_listed_in_order(tmp_path_factory, pairs):
    path = written(tmp_path_factory.mktemp("cdb"), pairs)
    first = {}
    for key, data in pairs:
        first.setdefault(key, data)
    cdb = Cdb(path)
    assert list(cdb) == pairs
    assert all(cdb.get(key) == data for key, data in first.items())
    assert cdb.get(b"\xffno such key of forty characters or less....") is None


def test_the_first_of_equal_keys_counts(tmp_path):
    cdb = Cdb(written(tmp_path, [(b"k", b"1"), (b"k", b"2")]))
    assert cdb.get(b"k") == b"1"
    assert b"k" in cdb
    assert b"j" not in cdb


def test_an_open_reader_keeps_the_version_it_opened(tmp_path):
    path = written(tmp_path, [(b"k", b"old")])
    reader = Cdb(path)
    write_cdb(path, [(b"k", b"new")])
    assert reader.get(b"k") == b"old"
    assert Cdb(path).get(b"k") == b"new"


def test_a_missing_file_is_not_a_broken_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        Cdb(str(tmp_path / "none"))


def test_a_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError) as caught:
        Cdb(str(tmp_path)).get(b"x")
    assert str(tmp_path) in str(caught.value)


def test_failed_write_leaves_the_old_file(tmp_path):
    path = written(tmp_path, [(b"k", b"old")])

    def pairs():
        yield b"k", b"new"
        raise RuntimeError("input ended badly")

    with pytest.raises(RuntimeError):
        write_cdb(path, pairs())
    assert Cdb(path).get(b"k") == b"old"


@given(data=st.binary(max_size=3000), key=st.binary(max_size=5))
def test_garbage_is_a_config_error_or_an_answer(tmp_path_factory, data, key):
    path = str(tmp_path_factory.mktemp("garbage") / "x")
    with open(path, "wb") as file:
        file.write(data)
    for question in (lambda: Cdb(path).get(key), lambda: list(Cdb(path))):
        try:
            question()
        except ConfigError as error:
            assert error.file == path


def test_truncation_in_place_is_an_error(tmp_path):
    path = written(tmp_path, [(b"key", b"data" * 100)])
    cdb = Cdb(path)
    os.truncate(path, 2060)
    with pytest.raises(ConfigError):
        cdb.get(b"key")


@needs_tcprules
def test_bytes_are_those_of_tcprules(tmp_path):
    rules = b'127.0.0.1:allow,RELAYCLIENT=""\n10.:deny\n:allow\n'
    theirs, ours = str(tmp_path / "theirs"), str(tmp_path / "ours")
    subprocess.run(["tcprules", theirs, theirs + ".tmp"], input=rules, check=True)
    write_cdb(ours, list(Cdb(theirs)))
    with open(theirs, "rb") as one, open(ours, "rb") as two:
        assert one.read() == two.read()


@needs_tinycdb
def test_tinycdb_reads_ours_and_makes_the_same_bytes(tmp_path):
    pairs = [(b"key%d" % (i % 700), b"value %d" % i) for i in range(1000)]
    ours, theirs = written(tmp_path, pairs), str(tmp_path / "theirs")
    dump = subprocess.run(["cdb", "-d", ours], capture_output=True, check=True).stdout
    subprocess.run(["cdb", "-c", theirs], input=dump, check=True)
    assert list(Cdb(theirs)) == pairs
    with open(theirs, "rb") as one, open(ours, "rb") as two:
        assert one.read() == two.read()
