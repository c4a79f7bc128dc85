"""A client of the administration API that blocks: for the command line and for scripts."""

from qvd.apiclient.api import Api, Reply
from qvd.apiclient.events import Event
from qvd.apiclient.problems import ApiError, ApiProblem, BadAnswer, Unreachable, Untrusted

__all__ = ["Api", "ApiError", "ApiProblem", "BadAnswer", "Event", "Reply", "Unreachable", "Untrusted"]
