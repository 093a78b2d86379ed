"""Figures cost about as much as shown in docs/performance.md; nobody notices when they begin to cost a hundred times that, but for this."""

import pytest
from bench import figures_cost

# Microseconds a message; measured are 0.5 to 2. A machine that is busy with other tests is slow, but not that slow.
LIMIT = 20.0


@pytest.mark.parametrize("role", sorted(figures_cost.ROLES))
def test_figures_cost_a_few_microseconds_a_message(role, monkeypatch):
    monkeypatch.setattr(figures_cost, "MESSAGES", 300)
    bare = figures_cost.measure(role, figures=False, form="qmail", rounds=5)
    counted = figures_cost.measure(role, figures=True, form="qmail", rounds=5)
    assert counted - bare < LIMIT
