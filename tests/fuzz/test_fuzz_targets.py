"""Each parser of strangers' bytes, as fuzzed: its seeds and all that was ever found, and a few inputs made from them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.targets import FOUND, TARGETS, inputs

CUTS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), st.binary(max_size=12)), max_size=4)


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_is_not_found_again(name):
    for data in inputs(name):
        TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_bytes_break_a_parser(name, data):
    text = data.draw(st.sampled_from(inputs(name)))
    for start, length, instead in data.draw(CUTS):
        text = text[:start] + instead + text[start + length :]
    TARGETS[name].run(text)


def test_findings_belong_to_a_target():
    assert {path.name for path in FOUND.iterdir()} <= set(TARGETS) if FOUND.exists() else True
