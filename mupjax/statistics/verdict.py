"""Verdicts on claims, each decided by an interval and a bound alone, and their JSON file.

A quantity is estimated with its 95 % interval, and a claim bounds it. The claim is 'reproduced' where the interval lies
inside the bound, 'contradicted' where it lies apart from it, else 'undecided'. So a noisy study cannot pass: it leaves
claims undecided, and says how many seeds would decide them. `control` keeps the rate of false contradictions in a group
of claims at 5 %.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from mupjax._files import write_whole
from mupjax.statistics.slopes import Slope, mean_slope, student

VERDICTS = "verdicts.json"
REPRODUCED, CONTRADICTED, UNDECIDED = "reproduced", "contradicted", "undecided"
NOT_MEASURED = "not measured"
LEVEL = 0.05  # one minus the coverage of intervals; the rate of false contradictions in a group
_NINE_OF_TEN = (1.96 + 1.28) / 1.96
_MOST_SEEDS = 1000  # beyond these, other widths or steps are the better advice


class Bound(NamedTuple):
    """The values that a claim allows, ends included; an end may be infinite.

    Attributes:
      low: smallest.
      high: largest.
    """

    low: float
    high: float


class Verdict(NamedTuple):
    """A claim, the estimate of the quantity that it bounds, and the conclusion.

    Attributes:
      claim: in words, with the quantity that it bounds.
      paper: the published number, or None.
      ours: the estimate; NaN if it was not measured.
      low: lower end of its 95 % interval; `ours` where the number is exact.
      high: upper end.
      stderr: standard error of `ours`; None if it is exact or its interval is not Student's.
      seeds: number of seeds, or of runs, behind `ours`.
      bound: the values that the claim allows.
      verdict: 'reproduced' (the interval lies inside the bound), 'contradicted' (apart from it) or 'undecided'.
      needs: what would decide an undecided claim; '' otherwise.
      group: the theorem or figure that the claim belongs to; false contradictions are controlled within a group.
      looks: of how many layers or steps this is the worst; they count in that control.
    """

    claim: str
    paper: float | None
    ours: float
    low: float
    high: float
    stderr: float | None
    seeds: int
    bound: Bound
    verdict: str
    needs: str
    group: str = ""
    looks: int = 1


class More(TypedDict, total=False):
    """What may be said of a claim beside its numbers; see `decide`."""

    paper: float | None
    needs: str
    group: str


class MoreAndSeeds(More, total=False):
    """The same, where the number of seeds does not follow from the values."""

    seeds: int


def decide(
    claim: str,
    ours: float,
    interval: tuple[float, float],
    bound: tuple[float, float],
    *,
    paper: float | None = None,
    stderr: float | None = None,
    seeds: int = 1,
    needs: str = "",
    group: str = "",
) -> Verdict:
    """Return the verdict that an estimate, its 95 % interval and a bound give.

    Args:
      claim: in words.
      ours: the estimate.
      interval: its 95 % interval; twice the estimate where that is exact.
      bound: the smallest and the largest value that the claim allows.
      paper: the published number.
      stderr: of `ours`.
      seeds: number of seeds behind it.
      needs: what would decide the claim, where that is not a number of seeds.
      group: the theorem or figure that the claim belongs to.

    Raises:
      ValueError: if the bound is empty.

    Example:
      >>> decide("no drift", 0.007, (-0.142, 0.156), (-0.13, 0.13), seeds=8).needs
      'about 33 seeds'
    """
    ours, low, high, bound = float(ours), float(interval[0]), float(interval[1]), Bound(*map(float, bound))
    if not bound.low <= bound.high:
        raise ValueError(f"Expected `bound` to be ascending, got {tuple(bound)}.")
    if math.isnan(ours) or math.isnan(low) or math.isnan(high):
        low = high = math.nan
        word, needs = UNDECIDED, needs or NOT_MEASURED
    elif bound.low <= low and high <= bound.high and math.isinf(ours):
        word, needs = (
            UNDECIDED,
            needs or "runs that do not diverge",
        )  # an open bound does not ask for an infinite number
    elif bound.low <= low and high <= bound.high:
        word, needs = REPRODUCED, ""
    elif low > bound.high or high < bound.low:
        word, needs = CONTRADICTED, ""
    else:
        word, needs = UNDECIDED, needs or _seeds_to_decide(ours, low, high, bound, seeds)
    return Verdict(claim, paper, ours, low, high, stderr, seeds, bound, word, needs, group)


def exact(claim: str, value: float, bound: tuple[float, float], **more: Unpack[MoreAndSeeds]) -> Verdict:
    """Return the verdict on a number without an error: a count, a maximum over runs, a theorem's clause.

    Args:
      claim, bound, more: as in `decide`.
      value: the number.

    Example:
      >>> exact("clauses refuted", 0, (0, 0)).verdict
      'reproduced'
    """
    return decide(claim, value, (value, value), bound, **more)


def of_mean(claim: str, values: npt.ArrayLike, bound: tuple[float, float], **more: Unpack[More]) -> Verdict:
    """Return the verdict on the mean of one value a seed, with Student's interval.

    Args:
      claim, bound, more: as in `decide`.
      values: [S].

    Example:
      >>> of_mean("near one", [0.9, 1.0, 1.1], (0.5, 1.5)).verdict
      'reproduced'
    """
    return of_slope(claim, mean_slope(values), bound, **more)


def of_finite(claim: str, values: npt.ArrayLike, bound: tuple[float, float], **more: Unpack[More]) -> Verdict:
    """Return the verdict of `of_mean`; where a run diverged, that on an infinite value.

    Args:
      claim, bound, more: as in `decide`.
      values: [S].

    Example:
      >>> of_finite("trains: last loss", [0.1, float("nan"), 0.1], (0.0, 0.5)).verdict
      'contradicted'
    """
    values = np.asarray(values, np.float64)
    if np.isfinite(values).all():
        return of_mean(claim, values, bound, **more)
    return exact(claim, math.inf, bound, seeds=len(values), **more)


def of_slope(claim: str, slope: Slope, bound: tuple[float, float], **more: Unpack[More]) -> Verdict:
    """Return the verdict on a fitted power or another mean over seeds, with its interval.

    Args:
      claim, bound, more: as in `decide`.
      slope: the estimate.

    Example:
      >>> of_slope("falls as n^-1/2", Slope(-0.5, 0.01, 0.03, 4), (-0.6, -0.4)).verdict
      'reproduced'
    """
    stderr = slope.stderr if math.isfinite(slope.stderr) else None
    interval = (slope.slope - slope.half_width, slope.slope + slope.half_width)
    return decide(claim, slope.slope, interval, bound, stderr=stderr, seeds=slope.seeds, **more)


def of_estimate(
    claim: str, value: float, stderr: float, bound: tuple[float, float], *, seeds: int, **more: Unpack[More]
) -> Verdict:
    """Return the verdict on a number with a standard error from `seeds` runs, with Student's interval.

    Args:
      claim, bound, more: as in `decide`.
      value: the number.
      stderr: its standard error; 0 for an exact number.
      seeds: number of runs behind the error.

    Example:
      >>> of_estimate("positive", 0.3, 0.01, (0.0, math.inf), seeds=4).verdict
      'reproduced'
    """
    half = 0.0 if stderr == 0 else math.inf if seeds < 2 else student(seeds) * stderr
    return decide(claim, value, (value - half, value + half), bound, stderr=stderr, seeds=seeds, **more)


def of_share(claim: str, happened: npt.ArrayLike, bound: tuple[float, float], **more: Unpack[More]) -> Verdict:
    """Return the verdict on the share of runs in which something happened, with Clopper and Pearson's interval.

    Args:
      claim, bound, more: as in `decide`.
      happened: bool, one value a run.

    Example:
      >>> share = of_share("most runs are catapulted", [True] * 10, (0.5, 1.0))
      >>> round(share.low, 3), share.verdict
      (0.692, 'reproduced')
    """
    from scipy import stats

    happened = np.asarray(happened, bool).ravel()
    found = stats.binomtest(int(happened.sum()), happened.size).proportion_ci(1 - LEVEL)
    share = float(happened.mean())
    return decide(claim, share, (found.low, found.high), bound, seeds=happened.size, **more)


def not_measured(
    claim: str, bound: tuple[float, float], why: str = NOT_MEASURED, *, seeds: int = 1, group: str = ""
) -> Verdict:
    """Return an undecided verdict on a quantity that was not measured.

    Args:
      claim, bound, seeds, group: as in `decide`.
      why: it was not, or what it would take; begins with 'not measured'.

    Example:
      >>> not_measured("the layer's own update", (-0.1, 0.1)).needs
      'not measured'
    """
    return decide(claim, math.nan, (math.nan, math.nan), bound, needs=why, seeds=seeds, group=group)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that decides a claim of several layers or steps.

    That is the contradicted one that is farthest from its bound, else an undecided one, else the one that comes nearest
    to its bound.

    Example:
      >>> worst([exact("layer 1", 0.0, (-1, 1)), exact("layer 2", 0.9, (-1, 1))]).claim
      'layer 2'
    """
    order = (CONTRADICTED, UNDECIDED, REPRODUCED)

    def rank(verdict: Verdict) -> tuple[int, float]:
        room = min(verdict.low - verdict.bound.low, verdict.bound.high - verdict.high)
        return order.index(verdict.verdict), -math.inf if math.isnan(room) else room

    return min(verdicts, key=rank)._replace(looks=sum(verdict.looks for verdict in verdicts))


def control(verdicts: Sequence[Verdict], level: float = LEVEL) -> list[Verdict]:
    """Return the verdicts with contradictions kept only where they survive Holm's procedure within their group.

    Of m right claims with independent errors, m/20 would have an interval apart from the truth. A contradiction's
    probability is that of an estimate so far outside the bound if the truth lay at the bound's end (two-sided,
    Student's), times the number of looks of which it is the worst (Bonferroni). Contradictions by exact numbers stay.
    What does not survive is 'undecided'.

    Args:
      verdicts: on all claims, of any groups.
      level: the largest probability that a group of right claims has a contradiction.

    Example:
      >>> lone = of_mean("zero", [0.9, 1.0, 1.1], (0.0, 0.5))
      >>> [v.verdict for v in control([lone, *[lone._replace(verdict="reproduced")] * 20])][0]
      'undecided'
    """
    sizes: dict[str, int] = {}
    outside: dict[str, list[tuple[float, int]]] = {}
    for place, verdict in enumerate(verdicts):
        sizes[verdict.group] = sizes.get(verdict.group, 0) + (not verdict.needs.startswith(NOT_MEASURED))
        if verdict.verdict == CONTRADICTED:
            outside.setdefault(verdict.group, []).append((min(1.0, verdict.looks * _chance(verdict)), place))
    kept = list(verdicts)
    for group, found in outside.items():
        survives = True
        for rank, (chance, place) in enumerate(sorted(found)):
            survives = survives and chance * (sizes[group] - rank) <= level
            if not survives:
                needs = f"more seeds: of {sizes[group]} claims one may lie outside by chance (p = {chance:.2g})"
                kept[place] = verdicts[place]._replace(verdict=UNDECIDED, needs=needs)
    return kept


def write(verdicts: Sequence[Verdict], out: str | os.PathLike[str]) -> Path:
    """Write `out`/verdicts.json, a list of verdicts as JSON objects, atomically. Return its path.

    Numbers that are not finite become null: of a bound, that end is open.

    Example:
      >>> import tempfile
      >>> write([exact("one is one", 1.0, (1.0, 1.0))], tempfile.mkdtemp()).name
      'verdicts.json'
    """
    return write_whole(Path(out) / VERDICTS, (json.dumps(rows(verdicts), indent=1) + "\n").encode())


def rows(verdicts: Sequence[Verdict]) -> list[dict[str, object]]:
    """Return verdicts as JSON objects.

    Example:
      >>> rows([exact("at least one", 2.0, (1.0, math.inf))])[0]["bound"]
      [1.0, None]
    """
    return [{name: _plain(value) for name, value in verdict._asdict().items()} for verdict in verdicts]


def _plain(value: object) -> object:
    if isinstance(value, Bound):
        return [_plain(end) for end in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def _chance(verdict: Verdict) -> float:
    """The two-sided probability of an estimate so far outside the bound, of Student's law; 0 of an exact number."""
    from scipy import stats

    if verdict.low == verdict.high:
        return 0.0
    gap = max(verdict.ours - verdict.bound.high, verdict.bound.low - verdict.ours)
    if verdict.stderr is None:  # of a share
        end = verdict.bound.high if verdict.ours > verdict.bound.high else verdict.bound.low
        return float(stats.binomtest(round(verdict.ours * verdict.seeds), verdict.seeds, end).pvalue)
    return 2 * float(stats.t.sf(gap / verdict.stderr, max(verdict.seeds - 1, 1)))


def _seeds_to_decide(ours: float, low: float, high: float, bound: Bound, seeds: int) -> str:
    """About how many seeds would decide in nine of ten repetitions, if the estimate is right."""
    if math.isinf(low) or math.isinf(high):
        return "two seeds or more"
    gap = min(abs(ours - end) for end in bound if math.isfinite(end))
    half = max(high - ours, ours - low)
    # The estimate itself scatters: 1.96 standard errors of the interval, and 1.28 more for nine of ten.
    count = math.inf if gap == 0 else math.ceil(seeds * (_NINE_OF_TEN * half / gap) ** 2)
    if count > _MOST_SEEDS:
        return f"more than {_MOST_SEEDS} seeds: the estimate lies at the bound"
    return f"about {max(count, seeds + 1)} seeds"
