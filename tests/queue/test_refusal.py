"""Exit codes and their texts."""

import pytest

from pluq.queue.refusal import QueueRefusal, code_of, explain


@pytest.mark.parametrize(
    ("code", "custom", "verdict"),
    [
        (11, None, "Denvelope address too long for qq (#5.1.3)"),
        (40, None, "Dqq permanent problem (#5.3.0)"),
        (41, None, "Zqq temporary problem (#4.3.0)"),
        (1, None, "Zqq temporary problem (#4.3.0)"),
        (-9, None, "Zqq crashed (#4.3.0)"),
        (82, b"Dgo away (#5.7.1)", "Dgo away (#5.7.1)"),
        (82, b"Dx", "Zqq temporary problem (#4.3.0)"),
        (31, b"Dnot used", "Dmail server permanently rejected message (#5.3.0)"),
        (120, None, "Zunable to exec qq (#4.3.0)"),
    ],
)
def test_a_code_has_qmails_text(code, custom, verdict):
    assert explain(code, custom) == verdict
    refused = QueueRefusal(code, custom)
    assert refused.verdict == verdict
    assert refused.permanent == (verdict[0] == "D")
    assert str(refused) == verdict[1:]


def test_the_text_leads_back_to_a_code():
    assert [code_of(explain(code)) for code in (11, 31, 51, 53, 54, 71, 74)] == [11, 31, 51, 53, 54, 71, 74]
    assert code_of("Dwhatever") == 31
    assert code_of("Zwhatever") == 71
