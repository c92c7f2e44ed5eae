"""A measured number with its goal, and statistics."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report."""

    what: str
    value: float
    unit: str = ""
    goal: float | None = None
    """The highest allowed value; None if it is only informative."""

    @property
    def missed(self) -> bool:
        """Whether the goal, if any, is exceeded."""
        return self.goal is not None and not self.value <= self.goal

    def __str__(self) -> str:
        goal = "" if self.goal is None else f"goal {_number(self.goal)}"
        verdict = "MISSED" if self.missed else "met" if goal else ""
        return f"{self.what:<68}{_number(self.value):>10} {self.unit:<9}{goal:<11}{verdict}".rstrip()


def percentile(values: Sequence[float], share: float) -> float:
    """A percentile of the values; nan without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def median_ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median of pairwise ratios."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def _number(value: float) -> str:
    if value == round(value) and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
