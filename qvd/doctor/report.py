# -*- test-case-name: tests.doctor.test_report -*-
"""All findings of one look: as text for people, as a document for programs, and as an exit status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from qvd.doctor.findings import Finding, Result, finding_of

CLEAN, WARNED, FAILED, UNKNOWN = 0, 1, 2, 3
"""Exit statuses, as monitoring systems (Nagios and its kin) understand them."""
WORDS = {
    Result.FAILURE: "FAILURE",
    Result.WARNING: "WARNING",
    Result.NOTE: "note",
    Result.OK: "ok",
    Result.NOT_APPLICABLE: "n/a",
}
COLUMN = 9


@frozen
class Report:
    """@ivar findings: in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def result(self) -> Result:
        """The worst; of nothing that was looked at, nothing is wrong."""
        return max((each.result for each in self.findings), key=lambda each: each.badness, default=Result.OK)

    @property
    def status(self) -> int:
        """Exit status."""
        return {Result.FAILURE: FAILED, Result.WARNING: WARNED}.get(self.result, CLEAN)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        counts = Counter(each.result for each in self.findings)
        return {
            "result": self.result.value,
            "counts": {result.value: counts[result] for result in Result},
            "findings": [each.document() for each in self.findings],
        }

    def text(self, everything: bool = False) -> str:
        """For people: what is wrong comes first.

        @param everything: what does not apply here, too.
        """
        ranked = sorted(self.findings, key=lambda each: -each.result.badness)
        shown = [each for each in ranked if everything or each.result is not Result.NOT_APPLICABLE]
        # A node and an administration on one machine have much in common: what both say is told once.
        told = dict.fromkeys(tuple(lines_of(each)) for each in shown)
        return "\n".join([*(line for lines in told for line in lines), self._summary(everything)]) + "\n"

    def _summary(self, everything: bool) -> str:
        counts = Counter(each.result for each in self.findings)
        said = [
            counted(counts[Result.FAILURE], "failure"),
            counted(counts[Result.WARNING], "warning"),
            counted(counts[Result.NOTE], "note"),
            f"{counts[Result.OK]} ok",
        ]
        left_out = counts[Result.NOT_APPLICABLE]
        hint = "" if everything or not left_out else " (--all says why)"
        return f"{', '.join(said)}; {left_out} do not apply here{hint}"


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def lines_of(finding: Finding) -> Iterator[str]:
    """One line where all is well, more where something is to be done."""
    head = f"{WORDS[finding.result]:<{COLUMN}}{finding.check}"
    if not finding.bad and not finding.mend:
        yield f"{head}  {finding.looked_at}: {finding.sentence}"
        return
    yield f"{head}  {finding.looked_at}"
    yield f"{'':<{COLUMN}}{finding.sentence}."
    if finding.mend:
        yield f"{'':<{COLUMN}}Mend: {finding.mend}"


def report_of(document: dict[str, Any]) -> Report:
    """What L{Report.document} made."""
    return Report(tuple(finding_of(each) for each in document["findings"]))
