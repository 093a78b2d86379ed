"""Which messages a filter means."""

import pytest

from pluq.queue.select import Message, Recipient, Selection, parse_age, patterns

NOW = 1_000_000


def message(**changes):
    values = {
        "number": 7,
        "identity": 1,
        "sender": "Ann@Example.ORG",
        "size": 100,
        "arrived": NOW - 3600,
        "state": "queued",
        "next_try": None,
        "recipients": [Recipient("bob@far.example", "remote", False), Recipient("joe@here.example", "local", True)],
    }
    return Message(**{**values, **changes})


@pytest.mark.parametrize(
    ("pattern", "address", "fits"),
    [
        ("ann@example.org", "ann@example.org", True),
        ("*@example.org", "ANN@example.org", True),
        ("example.org", "ann@example.org", True),
        ("@example.org", "ann@example.org", True),
        ("example.org", "ann@sub.example.org", False),
        ("*.example.org", "ann@sub.example.org", True),
        ("ann*@example.*", "ann-list@example.net", True),
        ("example.org", "example.org@elsewhere.example", False),
        ("ann@example.org", "ann@example.org.evil.example", False),
        ("*", "anything", True),
        ("<>", "", True),
        ("<>", "ann@example.org", False),
    ],
)
def test_a_pattern_is_for_the_whole_address_or_for_its_domain(pattern, address, fits):
    found = patterns([pattern])
    assert bool(found.match(address.lower())) is fits


def test_several_patterns_mean_any_of_them():
    found = patterns(["a.example", "b.example"])
    assert found.match("x@b.example")
    assert patterns([]) is None


@pytest.mark.parametrize(
    ("selection", "fits"),
    [
        (Selection(), True),
        (Selection(numbers=(7, 8)), True),
        (Selection(numbers=(8,)), False),
        (Selection(senders=patterns(["example.org"])), True),
        (Selection(recipients=patterns(["far.example"])), True),
        (Selection(recipients=patterns(["here.example"])), False),  # done
        (Selection(channel="remote"), True),
        (Selection(channel="local"), False),
        (Selection(channel="local", recipients=patterns(["far.example"])), False),
        (Selection(older=3600), True),
        (Selection(older=3601), False),
        (Selection(younger=3600), False),
        (Selection(younger=3601), True),
        (Selection(states=("held",)), False),
        (Selection(senders=patterns(["example.org"]), recipients=patterns(["other.example"])), False),
    ],
)
def test_a_message_has_to_fit_everything(selection, fits):
    assert selection.fits(message(), NOW) is fits


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259200), ("1w", 604800)]
)
def test_ages(text, seconds):
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1", "1y", "1.5h", "1 d", "\u0663"])
def test_what_is_no_age(text):
    with pytest.raises(ValueError, match="no age"):
        parse_age(text)
