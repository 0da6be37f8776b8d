"""What a benchmark hands over: figures with their targets, and how they are shown and kept."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.table import Table

import telewarm


class Verdict(StrEnum):
    MET = "met"
    MISSED = "missed"
    NONE = "-"  # there is no target: it is here to compare with


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured value. `least` or `most`: the target, in the same unit. `beside`: the baseline of the same run."""

    name: str
    value: float
    unit: str = ""
    least: float | None = None
    most: float | None = None
    beside: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.least is None and self.most is None:
            return Verdict.NONE
        missed = (self.least is not None and self.value < self.least) or (
            self.most is not None and self.value > self.most
        )
        return Verdict.MISSED if missed else Verdict.MET

    @property
    def target(self) -> str:
        bounds = (("≥", self.least), ("≤", self.most))
        return ", ".join(f"{sign} {shown(bound)}" for sign, bound in bounds if bound is not None)


def shown(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(title: str, figures: Sequence[Figure]) -> Table:
    """Target, figure, verdict."""
    drawn = Table(title=title, title_justify="left")
    for name in ("what", "figure", "target", "verdict", "beside"):
        drawn.add_column(name, justify="right" if name in {"figure", "target"} else "left", overflow="fold")
    styles = {Verdict.MET: "green", Verdict.MISSED: "bold red", Verdict.NONE: "dim"}
    for one in figures:
        figure = f"{shown(one.value)} {one.unit}".strip()
        drawn.add_row(one.name, figure, one.target, f"[{styles[one.verdict]}]{one.verdict}[/]", one.beside)
    return drawn


def machine() -> dict[str, object]:
    """What a figure depends on."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "telewarm": telewarm.__version__,
    }
