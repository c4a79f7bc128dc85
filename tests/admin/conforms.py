"""Whether an answer is one that the API's description has: each call that a test makes is checked so."""

from __future__ import annotations

import json
from collections.abc import Mapping

import jsonschema
import msgspec

from qvd.admin.call import Answer
from qvd.admin.endpoint import Endpoint
from qvd.admin.openapi import problem_schema, problem_statuses
from qvd.admin.problems import KINDS


def check(endpoint: Endpoint, answer: Answer, text: bytes) -> None:
    """@param text: the body, as it is sent.

    @raise AssertionError: it is not described.
    """
    route = f"{endpoint.route} answers {answer.status}"
    if answer.status == 304:
        assert endpoint.method == "GET" and text == b"", route
    elif answer.status in endpoint.answers:
        check_body(endpoint, answer, text)
    else:
        assert answer.status in set(problem_statuses(endpoint)), f"{route}, which is not described: {text!r}"
        assert answer.media == "application/problem+json", route
        document = json.loads(text)
        jsonschema.validate(document, problem_schema())
        kind = KINDS[document["type"].removeprefix("/problems/")]
        assert kind.status == answer.status, route
        # One kind may have several of QVD's numbers: what cannot be stopped, and what cannot be started.
        assert isinstance(document["code"], int), route


def check_body(endpoint: Endpoint, answer: Answer, text: bytes) -> None:
    """Of one that is as it should be."""
    declared = endpoint.answers[answer.status]
    if declared is None:
        assert text == b"", endpoint.route
        return
    assert answer.media.partition(";")[0] == endpoint.produces, endpoint.route
    if isinstance(declared, Mapping):
        if endpoint.produces == "application/json":
            jsonschema.validate(json.loads(text), dict(declared))
    else:
        msgspec.json.decode(text, type=declared)
