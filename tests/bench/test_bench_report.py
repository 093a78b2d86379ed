"""What the bench prints: medians, ratios the right way round, and how cost grows."""

from bench import limits, names, report
from bench.workloads import ALL, WORKLOADS, Result


def result(delivered, cpu):
    return Result(delivered * 2, delivered, cpu, 50 << 20, {"pluq-smtpd": cpu / 2})


RESULTS = {
    "new4k": {
        "pluq": [result(300, 400), result(3000, 500), result(200, 600)],
        "postfix": [result(100, 2000), result(150, 1000), result(90, 1500)],
    }
}


def test_a_row_has_medians_and_says_how_many_times_faster_and_cheaper_we_are():
    table = report.markdown(RESULTS, {"pluq": 50 << 20})
    assert (
        "| 4 KiB, a connection each | 300 (600), 500 us, 50 MiB | 100 (200), 1500 us, 50 MiB | 3.0 x postfix (3.0 x) |"
        in table
    )
    assert "| 4 KiB, a connection each | 250 |" in table
    assert "pluq 50 MiB" in table


def test_a_peer_that_was_not_there_leaves_its_cells_empty():
    alone = {"new4k": {"pluq": RESULTS["new4k"]["pluq"]}}
    assert report.markdown(alone, {}).count("x postfix") == 0


def test_every_workload_has_a_name_of_its_own():
    assert len(WORKLOADS) == len(ALL)


def test_linear_growth_has_the_exponent_one():
    assert limits.describe([(10, 0.01), (100, 0.1), (1000, 1.0)]).endswith("n^1.00 in the last decade")
    assert limits.describe([(10, 0.01), (100, 1.0)]).endswith("n^2.00 in the last decade")


def test_the_name_server_answers_from_its_table_and_denies_the_rest():
    import dns.message

    table = {("a.example", "TXT"): ['"v=spf1 -all"']}

    def ask(name, kind):
        return dns.message.from_wire(names.respond(dns.message.make_query(name, kind).to_wire(), table, {"a.example"}))

    assert ask("a.example", "TXT").answer[0][0].strings == (b"v=spf1 -all",)
    assert ask("a.example", "A").rcode() == 0
    assert not ask("a.example", "A").answer
    assert ask("b.example", "A").rcode() == 3
