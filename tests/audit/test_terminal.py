"""The table in the terminal."""

import dataclasses
import io

from rich.console import Console

from mlguard.audit import report_table
from mlguard.audit.findings.bootstrap import NearbyCounts
from mlguard.audit.report.terminal import attack_rows, rows
from tests.audits import attacked_report, claiming_report, findings, images, report


def test_every_condition_is_a_row_and_ratios_are_to_the_baseline() -> None:
    by_name = {name: cells for name, *cells in rows(findings())}
    assert list(by_name) == [
        "baseline",
        "correct key",
        "no key",
        "incorrect keys, mean of 2",
        "incorrect keys, best of 2",
        "keys 50\N{NO-BREAK SPACE}% wrong, mean of 2",
        "floor (constant answer)",
    ]
    score, leakage, share, interval = by_name["incorrect keys, best of 2"]
    assert (score, interval) == ("0.429", "0.429 – 0.429")
    assert (leakage, share) == ("24\N{NO-BREAK SPACE}%", "43\N{NO-BREAK SPACE}%")
    assert by_name["baseline"][1] == "–"


def test_the_nearby_row_is_the_share_nearest_to_a_quarter() -> None:
    nearby = [
        NearbyCounts(share=share, changed=share, counts=[images(right)])
        for share, right in ((0.0, 1.0), (0.3, 0.8), (0.5, 0.7))
    ]
    names = [name for name, *_ in rows(findings(nearby=nearby))]
    assert names[-2] == "keys 30\N{NO-BREAK SPACE}% wrong, mean of 1"
    assert len(rows(findings(nearby=[]))) == len(names) - 1


def test_without_a_twin_there_is_no_baseline_row() -> None:
    assert rows(findings(baseline=None))[0][0] == "correct key"


def test_the_table_ends_with_the_verdict_and_the_flags() -> None:
    out = io.StringIO()
    Console(file=out, width=400).print(report_table(report(), proved=True))
    number = len(report().flags)
    assert number
    claims = len(report().verdicts)
    assert claims
    verdict, bits, *flags = out.getvalue().splitlines()[-2 - number - claims : -claims]
    assert verdict.startswith("With the correct key")
    assert bits == "Effective key space: 202.9 bits."
    assert all(flag.startswith("warning: ") for flag in flags)


def test_attacks_are_a_table_and_claims_are_the_last_lines() -> None:
    out = io.StringIO()
    Console(file=out, width=400).print(report_table(claiming_report(), proved=True))
    shown = out.getvalue()
    assert "Who gets more" in shown
    assert "not run: exhaustive: too many keys" in shown
    answers = [line.split()[0] for line in shown.splitlines()[-3:]]
    assert answers == ["PASS", "FAIL", "INCONCLUSIVE"]


def test_an_attack_that_did_not_converge_has_a_star() -> None:
    section = attacked_report().attacks
    rough = dataclasses.replace(section.findings[0], converged=False)
    names = [
        cells[0]
        for cells in attack_rows(dataclasses.replace(section, findings=(rough,)))
    ]
    assert names == ["hill-climbing, batch-norm *"]


def test_a_table_that_nobody_vouches_for_begins_with_that() -> None:
    out = io.StringIO()
    Console(file=out, width=400).print(report_table(report(), proved=False))
    assert out.getvalue().startswith("Unproved: nothing shows")
