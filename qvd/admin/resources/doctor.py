# -*- test-case-name: tests.admin.test_doctor -*-
"""The doctor: what is wrong with the installation and with the machine of the administration, and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from qvd.admin.call import Answer, Call
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.problems import Problem

READ = "config.qvd."
"""Findings speak of settings, files and hosts: whoever may change the configuration may know them."""


class DoctorFinding(msgspec.Struct, forbid_unknown_fields=True):
    """One thing that was looked at. C{mend}: what to do; empty where there is nothing to do."""

    check: str
    about: str
    result: str
    looked_at: str
    sentence: str
    mend: str
    seconds: float


class DoctorReport(msgspec.Struct, forbid_unknown_fields=True):
    """All findings. C{result}: the worst of them. C{age}: seconds since the look, whose report serves all who ask
    within a few seconds."""

    result: str
    counts: dict[str, int]
    findings: list[DoctorFinding]
    age: float


class Doctor:
    """The operation."""

    def __init__(self, peers: object) -> None:
        """@param peers: all collections; none of them is of use here."""

    def endpoints(self) -> Sequence[Endpoint]:
        """All operations."""
        return [
            Endpoint(
                method="GET",
                path="/doctor",
                action="doctor.read",
                need=acl(READ, superadmin=True),
                handler=self.read,
                summary="Doctor: what is wrong with the installation, and how to mend it",
                answers={200: DoctorReport},
                tag="doctor",
            )
        ]

    async def read(self, call: Call) -> Answer:
        if call.services.doctor is None:
            raise Problem("unavailable", "This service has no doctor")
        document, age = await call.services.doctor.report()
        findings = [DoctorFinding(**each) for each in document["findings"]]
        return Answer(200, DoctorReport(document["result"], document["counts"], findings, round(age, 3)))
