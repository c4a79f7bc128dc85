"""Reports: text, document, status."""

from __future__ import annotations

import json

from attrs import evolve

from qvd.doctor.findings import About, Finding, Result, failure, not_applicable, note, ok, warning
from qvd.doctor.report import CLEAN, FAILED, WARNED, Report, report_of

FINDINGS = (
    ok("it", "well"),
    not_applicable("that", "not here"),
    note("this", "Look"),
    warning("soon", "It ends", "renew it"),
    failure("all", "It is broken", "mend it"),
)


def of(*findings: Finding) -> Report:
    return Report(tuple(each.of("x.y", About.NODE, 0.25) for each in findings))


def test_the_worst_counts() -> None:
    assert of().status == of(*FINDINGS[:3]).status == CLEAN
    assert of(*FINDINGS[:4]).status == WARNED
    assert of(*FINDINGS).status == FAILED
    assert of(*FINDINGS[:2]).result is Result.OK
    assert of(*FINDINGS[:3]).result is Result.NOTE


def test_what_is_wrong_comes_first() -> None:
    lines = of(*FINDINGS).text().splitlines()
    assert lines[:3] == ["FAILURE  x.y  all", "         It is broken.", "         Mend: mend it"]
    assert [line.split()[0] for line in lines if line[0] != " "] == ["FAILURE", "WARNING", "note", "ok", "1"]
    assert lines[-1] == "1 failure, 1 warning, 1 note, 1 ok; 1 do not apply here (--all says why)"
    assert "n/a      x.y  that: not here" in of(*FINDINGS).text(everything=True)


def test_what_two_daemons_say_alike_is_told_once() -> None:
    one = ok("it", "well").of("x.y", About.NODE, 0.25)
    text = Report((one, evolve(one, about=About.ADMIN, seconds=0.5))).text()
    assert text.count("it: well") == 1


def test_documents_come_back() -> None:
    report = of(*FINDINGS)
    assert report_of(json.loads(json.dumps(report.document()))) == report
