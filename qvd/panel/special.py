"""Screens that are more than a list or an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qvd.panel.administrators import administrators
from qvd.panel.config import config
from qvd.panel.doctor import doctor
from qvd.panel.images import images
from qvd.panel.jobs import jobs
from qvd.panel.log import log
from qvd.panel.me import me
from qvd.panel.roles import roles
from qvd.panel.site import Panel, Route

SPECIAL: Sequence[Callable[[Panel], Sequence[Route]]] = (me, jobs, log, config, roles, administrators, images, doctor)
