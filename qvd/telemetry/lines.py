# -*- test-case-name: tests.unit.test_telemetry -*-
"""The log as JSON, one object a line, for programs that collect logs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from twisted.logger import FileLogObserver, LogEvent, formatEvent

COPIED = ("request", "action", "status", "client", "administrator", "milliseconds")
"""Fields of ours that are worth a member of their own."""


def as_json(event: LogEvent) -> str:
    """One line."""
    level = event.get("log_level")
    document: dict[str, Any] = {
        "time": datetime.fromtimestamp(float(event.get("log_time") or 0), UTC).isoformat(timespec="milliseconds"),
        "level": level.name if level is not None else "info",
        "logger": event.get("log_namespace") or "-",
        "message": formatEvent(event),
    }
    for name in COPIED:
        if name in event:
            document["request_id" if name == "request" else name] = event[name]
    failure = event.get("log_failure")
    if failure is not None:
        document["failure"] = failure.getTraceback()
    return json.dumps(document, default=str) + "\n"


def json_observer(file: Any) -> FileLogObserver:
    """Writes to a file that is open for text."""
    return FileLogObserver(file, as_json)
