"""Options are read as qmail's programs read them."""

import os

import pytest

from pluq.commands.options import Options


@pytest.mark.parametrize(
    ("words", "letters", "expected", "rest"),
    [
        (["-nf", "joe", "ann"], "nNf:", [("n", ""), ("f", "joe")], ["ann"]),
        (["-fjoe", "ann"], "nf:", [("f", "joe")], ["ann"]),
        (["-f", "", "ann"], "nf:", [("f", "")], ["ann"]),
        (["-n", "--", "-n"], "n", [("n", "")], ["-n"]),
        (["-n", "--word", "-n"], "n", [("n", "")], ["-n"]),
        (["-n", "-", "-n"], "n", [("n", "")], ["-", "-n"]),
        (["ann", "-n"], "n", [], ["ann", "-n"]),
        (["", "-n"], "n", [], ["", "-n"]),
        ([], "n", [], []),
        (["-f", "--", "x"], "f:", [("f", "--")], ["x"]),
    ],
)
def test_words_become_options(words, letters, expected, rest):
    options = Options(["/bin/prog", *words], letters)
    assert list(options) == expected
    assert options.rest == rest


def test_an_unknown_letter_is_named(capfd):
    options = Options(["/bin/prog", "-az", "x"], "a")
    assert list(options) == [("a", ""), ("?", "")]
    assert capfd.readouterr().err == "prog: illegal option -- z\n"


@pytest.mark.parametrize(("word", "said"), [(b"-\xe9", b"\xe9"), (b"-\xc3\xa9", b"\xc3")])
def test_an_unknown_letter_is_named_as_the_byte_that_it_is(capfdbinary, word, said):
    assert list(Options(["prog", os.fsdecode(word)], "a")) == [("?", "")]
    assert capfdbinary.readouterr().err == b"prog: illegal option -- " + said + b"\n"


def test_a_missing_value_is_named(capfd):
    options = Options(["prog", "-f"], "f:")
    assert list(options) == [("?", "")]
    assert capfd.readouterr().err == "prog: option requires an argument -- f\n"


def test_the_rest_of_a_word_can_be_skipped():
    options = Options(["prog", "-Eabc", "-t"], "Et")
    seen = []
    for letter, _ in options:
        seen.append(letter)
        if letter == "E":
            options.skip_word()
    assert seen == ["E", "t"]
