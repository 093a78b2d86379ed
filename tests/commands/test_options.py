"""Options are read as qmail's programs read them."""

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


def test_an_unknown_letter_is_named(capsys):
    options = Options(["/bin/prog", "-az", "x"], "a")
    assert list(options) == [("a", ""), ("?", "")]
    assert capsys.readouterr().err == "prog: illegal option -- z\n"


def test_a_missing_value_is_named(capsys):
    options = Options(["prog", "-f"], "f:")
    assert list(options) == [("?", "")]
    assert capsys.readouterr().err == "prog: option requires an argument -- f\n"


def test_the_rest_of_a_word_can_be_skipped():
    options = Options(["prog", "-Eabc", "-t"], "Et")
    seen = []
    for letter, _ in options:
        seen.append(letter)
        if letter == "E":
            options.skip_word()
    assert seen == ["E", "t"]
