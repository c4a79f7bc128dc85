# -*- test-case-name: tests.unit.test_sim_report -*-
"""
The course of a day as one SVG picture: panels below each other with one axis of time.

Written by hand: four line charts do not pay for a plotting library of the size of all the rest of QVD.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from xml.sax.saxutils import escape

from attrs import frozen

from qvd.sim.record import Record
from qvd.sim.scenario import clock_text

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 960, 170, 70, 20, 40, 46
COLORS = ("#1f5fa8", "#c4572b", "#3d8b4f", "#7a4f9e", "#8a7a1f", "#4a4a4a")
MOST_POINTS = 4000

Point = tuple[float, float]


@frozen
class Series:
    """@ivar dots: points of their own, instead of a line through them."""

    name: str
    points: Sequence[Point]
    dots: bool = False


@frozen
class Panel:
    """One chart."""

    title: str
    series: Sequence[Series]


def nice(value: float) -> float:
    """The end of an axis that reaches C{value}."""
    if value <= 0:
        return 1.0
    size = 10.0 ** ceil(log10(value) - 1)
    return next(float(step * size) for step in (1, 2, 3, 5, 10) if step * size >= value * 0.999)


def thinned(points: Sequence[Point]) -> Sequence[Point]:
    """So many that a picture can show them."""
    return points[:: len(points) // MOST_POINTS + 1]


def panels(record: Record) -> list[Panel]:
    """What there is to see of a run."""
    samples = record.samples
    phases = sorted({phase for sample in samples for phase in sample.waiting})
    served = [visit for visit in record.visits if visit.desktop_at is not None]
    refused = [(visit.failed_at, 0.0) for visit in record.visits if visit.failed_at is not None]
    offset = record.clock_offset
    return [
        Panel(
            "Running VMs on a node",
            [
                Series("most", [(s.at, max(s.guests.values())) for s in samples]),
                Series("mean", [(s.at, sum(s.guests.values()) / len(s.guests)) for s in samples]),
                Series("least", [(s.at, min(s.guests.values())) for s in samples]),
            ],
        ),
        Panel(
            "Seconds from the request to the desktop, by the time of the request; requests refused at 0",
            [
                Series(
                    "desktops",
                    [(v.asked_at - offset, v.desktop_at - v.asked_at) for v in served if v.desktop_at is not None],
                    dots=True,
                ),
                Series("refused", [(at - offset, zero) for at, zero in refused], dots=True),
            ],
        ),
        Panel(
            "VMs on their way, by phase",
            [Series(phase, [(s.at, float(s.waiting.get(phase, 0))) for s in samples]) for phase in phases],
        ),
        Panel(
            "Queries a second, of one node",
            [
                Series("most", [(s.at, max(s.queries.values())) for s in samples]),
                Series("mean", [(s.at, sum(s.queries.values()) / len(s.queries)) for s in samples]),
            ],
        ),
    ]


def svg(title: str, begins: float, ends: float, charts: Sequence[Panel]) -> str:
    """@param begins: second of the day at the left edge; C{ends} at the right one."""
    height = TOP + len(charts) * (PANEL + GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif"'
        f' font-size="11"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
    ]
    for number, panel in enumerate(charts):
        lines.extend(_panel(panel, TOP + number * (PANEL + GAP), begins, ends))
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, top: int, begins: float, ends: float) -> list[str]:
    right, bottom = WIDTH - RIGHT, top + PANEL
    highest = nice(max((y for series in panel.series for _, y in series.points), default=0.0))

    def place(point: Point) -> str:
        x = LEFT + (right - LEFT) * (point[0] - begins) / (ends - begins)
        y = bottom - (PANEL - 24) * point[1] / highest
        return f"{x:.1f},{y:.1f}"

    lines = [f'<text x="{LEFT}" y="{top + 10}" font-weight="bold">{escape(panel.title)}</text>']
    for part in (0.0, 0.5, 1.0):
        x, y = place((begins + (ends - begins) * part, highest * part)).split(",")
        lines.append(f'<path d="M{LEFT} {y}H{right}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y}" text-anchor="end">{highest * part:g}</text>')
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[part]
        label = clock_text(begins + (ends - begins) * part)
        lines.append(f'<text x="{x}" y="{bottom + 14}" text-anchor="{anchor}">{label}</text>')
    for index, series in enumerate(panel.series):
        color = COLORS[index % len(COLORS)]
        lines.append(f'<text x="{LEFT + 130 * index}" y="{bottom + 28}" fill="{color}">{escape(series.name)}</text>')
        points = [place(point) for point in thinned(series.points)]
        if series.dots:
            marks = "".join(f'<circle cx="{x}" cy="{y}" r="1.5"/>' for x, y in (p.split(",") for p in points))
            lines.append(f'<g fill="{color}" fill-opacity="0.5">{marks}</g>')
        elif points:
            lines.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{color}" stroke-width="1.5"/>')
    return lines
