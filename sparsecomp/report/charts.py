"""Geometry of charts: from figures to positions in an SVG, which the page's template draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44
BAR, BAR_GAP, BAR_GROUP = 14, 4, 18
LEFT_OF_BARS, RIGHT_OF_BARS = 100, 130
"""Room for what groups and values are called."""
TICKS = 5


class Marker(StrEnum):
    """The shape of a series' points: series differ in shape and line, not in colour alone."""

    DISC = auto()
    SQUARE = auto()
    TRIANGLE = auto()
    CROSS = auto()


@dataclass(frozen=True)
class Point:
    """A figure at (x, y); `note` says it in words."""

    x: float
    y: float
    note: str


@dataclass(frozen=True)
class Series:
    """Points of one kind; `joined` by a line, which may be dashed."""

    name: str
    marker: Marker
    points: Sequence[Point]
    joined: bool = True
    dashed: bool = False


@dataclass(frozen=True)
class Tick:
    """A value on an axis: where, and what it is called."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """Series over two axes, in SVG coordinates."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`, with ticks at multiples of `step`, called as `text` says."""

    label: str
    low: float
    high: float
    step: float
    text: Callable[[float], str]

    @property
    def ticks(self) -> list[float]:
        first, last = math.ceil(self.low / self.step), math.floor(self.high / self.step + 1e-9)
        return [i * self.step for i in range(first, last + 1)]


def percent_axis(label: str) -> Axis:
    return Axis(label, 0.0, 1.0, 0.25, lambda value: f"{value:.0%}")


def axis_to(label: str, high: float, text: Callable[[float], str]) -> Axis:
    """From 0 to at least `high`, with round ticks."""
    step = _round_step(high)
    return Axis(label, 0.0, math.ceil(high / step - 1e-9) * step or step, step, text)


def counting_axis(label: str, last: int) -> Axis:
    """The numbers 0 to `last`, with half a step of room at either end."""
    step = max(_round_step(last), 1.0)
    return Axis(label, -0.5, last + 0.5, step, lambda value: f"{value:.0f}")


def _round_step(high: float) -> float:
    rough = max(high, 1e-12) / TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))


def plot(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> Plot:
    """A chart of series whose points are in the axes' values."""

    def across(value: float) -> float:
        return round(LEFT + (value - x.low) / (x.high - x.low) * (WIDTH - LEFT - RIGHT), 1)

    def up(value: float) -> float:
        share = (value - y.low) / (y.high - y.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    return Plot(
        title,
        x.label,
        y.label,
        tuple(
            Series(
                s.name,
                s.marker,
                tuple(Point(across(p.x), up(p.y), p.note) for p in s.points),
                s.joined,
                s.dashed,
            )
            for s in series
        ),
        tuple(Tick(across(value), x.text(value)) for value in x.ticks),
        tuple(Tick(up(value), y.text(value)) for value in y.ticks),
    )


@dataclass(frozen=True)
class Bar:
    """One bar: its top, length in SVG units, and figure in words."""

    name: str
    y: float
    length: float
    text: str


@dataclass(frozen=True)
class Group:
    """Bars that are compared with each other."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Bars:
    """Groups of horizontal bars, in SVG coordinates."""

    title: str
    groups: tuple[Group, ...]
    height: int
    width: int = WIDTH
    left: int = LEFT_OF_BARS
    bar: int = BAR


def bars(
    title: str,
    groups: Sequence[tuple[str, Sequence[tuple[str, float]]]],
    text: Callable[[float], str],
) -> Bars:
    """`groups`: a name each, and (name, value) of its bars."""
    longest = max((value for _, group in groups for _, value in group), default=0.0) or 1.0
    room = WIDTH - LEFT_OF_BARS - RIGHT_OF_BARS
    made, y = [], float(TOP)
    for name, values in groups:
        drawn = []
        for bar, value in values:
            drawn.append(Bar(bar, y, round(value / longest * room, 1), text(value)))
            y += BAR + BAR_GAP
        made.append(Group(name, tuple(drawn)))
        y += BAR_GROUP
    return Bars(title, tuple(made), round(y))
