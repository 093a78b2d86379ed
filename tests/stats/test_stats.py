"""pluq stats: what is counted, what it costs, how it is shown."""

import gzip
import json
import os
import subprocess

import pytest

from pluq.log import lines, objects
from pluq.stats import files
from pluq.stats.bounded import Durations, Recent, TopCounts
from pluq.stats.report import domain_outcomes, duration, periods, text, values
from pluq.stats.tally import Counter, reason
from pluq.testing.stack import BIN

START = 1_795_273_200  # 15:00:00 UTC


def stamped(seconds, line):
    return b"@%016x%08x %b" % (START + seconds + 2**62 + 10, 0, line)


LOG = [
    stamped(0, b"new msg 42"),
    stamped(0, b"info msg 42: bytes 1000 from <ann@a.example> qp 9 uid 1"),
    stamped(1, b"starting delivery 1: msg 42 to local joe@example.org"),
    stamped(1, b"status: local 1/10 remote 0/20"),
    stamped(2, b"starting delivery 2: msg 42 to remote bob@far.example"),
    stamped(3, b"delivery 1: success: did_1+0+0/"),
    stamped(4, b"delivery 2: deferral: Connected_to_192.0.2.1_but_greeting_failed./Remote_host_said:_421_busy/"),
    stamped(3700, b"starting delivery 3: msg 42 to remote bob@far.example"),
    stamped(
        3710, b"delivery 3: failure: 192.0.2.7_does_not_like_recipient./Remote_host_said:_550_<bob@far.example>_no/"
    ),
    stamped(3710, b"bounce msg 42 qp 10"),
    stamped(3710, b"end msg 42"),
    stamped(3710, b"new msg 43"),
    stamped(3710, b"info msg 43: bytes 2000 from <> qp 10 uid 2"),
    stamped(3711, b"warning: trouble opening remote/5/1234; will try again later"),
    b"tcpserver: status: 1/40",
]


WRITES = [
    lambda form: form.new_message(42),
    lambda form: form.new_message(43),
    lambda form: form.info(42, 813, b"s@example.net", 99, 1000),
    lambda form: form.starting(7, 42, b"local", b"joe@example.org"),
    lambda form: form.delivered(7, b"K", b"ok\n"),
    lambda form: form.end_message(42),
    lambda form: form.end_message(43),
]


def tally_of(lines, **options):
    counter = Counter(**options)
    counter.read(lines)
    return counter.tally


def test_everything_is_counted_once():
    found = values(tally_of(LOG), 10)
    assert found["messages"] == {"new": 2, "ended": 1, "bytes": 3000, "bounces": 1}
    assert found["deliveries"]["local"] == {"success": 1, "deferral": 0, "failure": 0}
    assert found["deliveries"]["remote"] == {"success": 0, "deferral": 1, "failure": 1}
    assert found["delays"]["local"]["median"] == pytest.approx(3, rel=0.03)
    assert found["attempts"]["remote"]["longest"] == 10
    assert found["in_queue"]["count"] == 1
    assert found["in_queue"]["p99"] == pytest.approx(3710, rel=0.03)
    assert found["senders"] == [{"sender": "ann@a.example", "messages": 1}, {"sender": "<>", "messages": 1}]
    assert found["senders_by_bytes"][0] == {"sender": "<>", "bytes": 2000}
    assert found["domains"][0] == {"domain": "far.example", "success": 0, "deferral": 1, "failure": 1}
    assert found["deferrals"] == [
        {"reason": "Connected to (IP) but greeting failed. Remote host said: 421 busy", "count": 1}
    ]
    assert found["failures"][0]["reason"] == "(IP) does not like recipient. Remote host said: 550 <...> no"
    assert found["troubles"] == [{"line": "warning: trouble opening remote/N/N; will try again later", "count": 1}]
    assert [(hour["hour"], hour["messages"], hour["success"]) for hour in found["hours"]] == [
        (START, 1, 1),
        (START + 3600, 1, 0),
    ]
    assert found["first"] == START
    assert not found["approximate"]


def test_a_log_in_both_forms_counts_each_event_once():
    both = [form for write in WRITES for form in (write(lines).rstrip(b"\n"), write(objects).rstrip(b"\n"))]
    for log in (both, both[::2], both[1::2], both[::2] + both[1::2]):
        found = tally_of(log)
        times = 2 if log == both[::2] + both[1::2] else 1
        assert (found.messages, found.ended, found.attempts[b"local", b"success"]) == (2 * times, 2 * times, times)


def test_the_report_has_each_number():
    shown = "\n".join(text(tally_of(LOG), 10))
    assert "messages    2 new, 1 ended, 3 kB; 1 bounces sent" in shown
    assert "from 2026-11-21 15:00:00 to 2026-11-21 16:01:51 UTC (61.9 min)" in shown
    assert "local                1           0           0" in shown
    assert " 11-21 15:00         2  #########################~~~~~~~~~~~~~~~~~~~~~~~~~" in shown


def test_a_period_is_cut_out():
    assert tally_of(LOG, since=START + 3600).messages == 1
    assert tally_of(LOG, until=START + 3600).messages == 1
    assert tally_of([b"new msg 1"], since=START).messages == 0


def test_lines_without_times_are_counted_without_delays():
    found = tally_of([line.partition(b" ")[2] for line in LOG])
    assert found.messages == 2
    assert values(found, 5)["delays"]["local"]["count"] == 0
    assert next(text(found, 5)).endswith("there are no delays, and no hours")


def test_an_attempt_whose_begin_is_not_in_the_log_counts():
    found = tally_of([stamped(0, b"delivery 9: success: 192.0.2.1_accepted_message./")])
    assert found.attempts[b"remote", b"success"] == 1


def test_many_hours_are_shown_as_days():
    found = tally_of([stamped(day * 86400, b"delivery 9: success: ok/") for day in range(5)])
    step, shown = periods(found)
    assert step == 86400
    assert [one.success for _when, one in shown] == [1] * 5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"Sorry,_no_mailbox_here_by_that_name._(#5.1.1)/", b"Sorry,_no_mailbox_here_by_that_name._(#5.1.1)/"),
        (b"Connected_to_192.0.2.1_but_x", b"Connected_to_198.51.100.7_but_x"),
        (b"said:_450_4.7.1_<a@b.example>_try_in_299_s", b"said:_450_4.7.1_<c@d.example>_try_in_3_s"),
        (b"said:_421_mx1.big.example_busy_(4XyzAb12cdEf)", b"said:_421_mx2.big.example_busy_(9QrsTu34vwXy)"),
        (b"2001:db8::1_does_not_like", b"2001:db8::2:3_does_not_like"),
    ],
)
def test_reports_that_mean_the_same_are_one_reason(one, other):
    assert reason(one) == reason(other)


def test_codes_tell_reasons_apart():
    assert reason(b"Remote_host_said:_450_no") != reason(b"Remote_host_said:_550_no")
    assert reason(b"x_(#4.4.1)") != reason(b"x_(#4.4.2)")


def test_counts_stay_bounded_and_keep_the_largest():
    counts = TopCounts(most=100)
    for number in range(1000):
        counts.add(number)
        counts.add("often")
    assert counts.top(1) == [("often", 1000)]
    assert len(list(counts.all())) <= 100
    assert counts.forgotten


def test_what_never_ends_is_forgotten():
    recent = Recent(most=2)
    for number in (1, 2, 1, 3):
        recent.put(number, number)
    assert [recent.get(number) for number in (1, 2, 3)] == [1, None, 3]


def test_quantiles_are_right_to_a_few_percent():
    times = Durations()
    for number in range(1, 1001):
        times.add(number / 100)
    for share in (0.5, 0.9, 0.99):
        assert times.quantile(share) == pytest.approx(10 * share, rel=0.03)
    assert times.quantile(1.0) == 10
    assert Durations().quantile(0.5) is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.0123, "12.3 ms"), (3, "3 s"), (119, "119 s"), (600, "10 min"), (90000, "25 h"), (864000, "10 d")],
)
def test_durations_for_people(seconds, shown):
    assert duration(seconds) == shown


def test_a_folder_of_a_logger_is_read_from_its_oldest_file(tmp_path):
    for name in ("current", "@400000006740b.s", "@400000006740a.u", "lock", "state"):
        (tmp_path / name).write_bytes(name.encode() + b"\n")
    found = [line for path in files.log_files([str(tmp_path)]) for line in files.lines(path)]
    assert found == [b"@400000006740a.u", b"@400000006740b.s", b"current"]


def run(*arguments, **options):
    return subprocess.run([BIN / "pluq", "stats", *arguments], capture_output=True, timeout=60, check=False, **options)


def test_the_command_reads_files_folders_and_pipes(tmp_path):
    data = b"".join(line + b"\n" for line in LOG)
    (tmp_path / "current").write_bytes(data)
    with gzip.open(tmp_path / "old.gz", "wb") as file:
        file.write(data)
    for told in (run("--json", str(tmp_path)), run("--json", str(tmp_path / "old.gz")), run("--json", input=data)):
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["messages"]["new"] == 2
    assert run(str(tmp_path), str(tmp_path / "old.gz")).stdout.count(b"4 new") == 1


def test_what_is_no_log_is_said_so(tmp_path):
    (tmp_path / "x").write_text("hello\n")
    (tmp_path / "empty").mkdir()
    assert run(str(tmp_path / "x")).returncode == 1
    assert run("-", input=b"").stderr.endswith(b"no line of qmail-send in standard input\n")
    assert run(str(tmp_path / "missing")).returncode == 111
    assert run(str(tmp_path / "empty")).returncode == 111
    assert run("--since", "yesterday").returncode == 2


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib (the extra stats)")
    (tmp_path / "log").write_bytes(b"".join(line + b"\n" for line in LOG))
    told = run(str(tmp_path / "log"), "--plot", str(tmp_path / "plot.png"))
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_without_matplotlib_the_picture_says_what_to_install(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError\n")
    told = run("--plot", str(tmp_path / "plot.png"), input=b"", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert told.returncode == 111
    assert b"pip install 'pluq[stats]'" in told.stderr


def test_outcomes_of_a_domain_add_up():
    found = tally_of(LOG)
    assert sum(domain_outcomes(found).values()) == sum(found.attempts.values())
