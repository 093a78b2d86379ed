"""The judge sees what it is there to see: a judge that calls everything good proves nothing."""

from hypothesis import given
from hypothesis import strategies as st
from tests.torture.ledger import Copy, Ledger, compose, read_copy

JOE, ANN = "joe@here", "ann@there"


def accepted(*recipients):
    ledger = Ledger()
    token = ledger.begin(recipients)
    ledger.accept(token)
    return ledger, token, ledger.accepted[token].at


@given(st.integers(0, 100_000))
def test_a_message_that_came_whole_is_known_as_such(size):
    text = b"Return-Path: <x>\nReceived: by us\n" + compose("m1", size)
    assert read_copy(JOE, text, 1.0) == Copy(JOE, "m1", True, 1.0)


@given(st.integers(1, 400))
def test_half_a_message_is_corrupt(cut):
    text = compose("m000001", 300)
    copy = read_copy(JOE, text[: max(0, len(text) - cut)], 1.0)
    assert not copy.whole
    ledger, _, _ = accepted(JOE)
    assert ledger.judge("x", [copy]).corrupt == 1


def test_what_did_not_arrive_is_lost():
    ledger, token, at = accepted(JOE, ANN)
    row = ledger.judge("x", [Copy(JOE, token, True, at)])
    assert (row.accepted, row.delivered, row.lost, row.good) == (2, 1, 1, False)
    assert ledger.outstanding([]) == {(token, JOE), (token, ANN)}


def test_a_second_copy_needs_a_fault_between_the_two():
    ledger, token, at = accepted(JOE)
    copies = [Copy(JOE, token, True, at + 1), Copy(JOE, token, True, at + 3)]
    ledger.fault(at + 5)
    assert ledger.judge("x", copies).unexplained == 1
    ledger.fault(at + 2)
    row = ledger.judge("x", copies)
    assert (row.explained, row.unexplained, row.good) == (1, 0, True)


def test_a_third_copy_needs_another_fault():
    ledger, token, at = accepted(JOE)
    ledger.fault(at + 2)
    copies = [Copy(JOE, token, True, at + when) for when in (1, 3, 5)]
    assert ledger.judge("x", copies).unexplained == 1


def test_what_was_never_answered_may_arrive_or_not():
    ledger, token, at = accepted(JOE)
    other = ledger.begin([JOE])
    copies = [Copy(JOE, token, True, at), Copy(JOE, other, True, at)]
    assert ledger.judge("x", copies).good
    assert ledger.judge("x", copies).unasked == 1


def test_a_control_is_good_when_it_shows_its_losses():
    ledger, token, at = accepted(JOE, ANN)
    for copies, good in (
        ([Copy(JOE, token, True, at)], True),
        ([Copy(who, token, True, at) for who in (JOE, ANN)], False),
    ):
        row = ledger.judge("x", copies)
        row.is_control = True
        assert row.good is good
        assert row.accepted == row.delivered + row.lost


def test_a_run_that_accepted_nothing_is_not_good():
    assert not Ledger().judge("x", []).good
