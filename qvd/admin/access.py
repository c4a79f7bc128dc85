# -*- test-case-name: tests.admin.test_server -*-
"""One line in the log for each request."""

from __future__ import annotations

from twisted.logger import Logger

from qvd.admin.call import Answer, Call


class AccessLog:
    """Who called what, and what became of it. Query strings and bodies may hold what is nobody else's to read."""

    log = Logger()

    def answered(self, call: Call, answer: Answer, seconds: float) -> None:
        self.log.info(
            "{client} {method} {path}: {status} in {milliseconds} ms, {action} by {administrator}, request {request}",
            client=call.client_address,
            method=call.method,
            path=call.uri.partition("?")[0],
            status=answer.status,
            milliseconds=round(seconds * 1000, 1),
            action=call.endpoint.action,
            administrator=call.caller.administrator_id if call.caller else "nobody",
            request=call.request_id,
        )
