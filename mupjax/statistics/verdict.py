"""What was found of a claim, and how it is kept."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mupjax._files import write_whole

VERDICTS = "verdicts.json"
REPRODUCED, CONTRADICTED, NOT_SHOWN = "reproduced", "contradicted", "not shown"


class Verdict(NamedTuple):
    """What a claim says, what was found, and whether that settles it.

    claim: in words. paper: the published figure, None where there is none. ours: the figure found. stderr: its standard
    error, None where it has none. seeds: how many it rests on. bound: what `ours` must meet. verdict: 'reproduced',
    'contradicted' or 'not shown' (the figure's error is too large to tell).
    """

    claim: str
    paper: float | None
    ours: float
    stderr: float | None
    seeds: int
    bound: str
    verdict: str


def settle(met: bool, refuted: bool) -> str:
    """Return the word for a claim that is met, refuted, or neither."""
    return REPRODUCED if met else CONTRADICTED if refuted else NOT_SHOWN


def write(verdicts: Sequence[Verdict], out: str | os.PathLike[str]) -> Path:
    """Write verdicts.json, a list of verdicts as JSON objects, to the directory `out`: whole or not at all."""
    rows = [{name: _plain(value) for name, value in verdict._asdict().items()} for verdict in verdicts]
    return write_whole(Path(out) / VERDICTS, (json.dumps(rows, indent=1) + "\n").encode())


def _plain(value: Any) -> Any:
    """Numbers as JSON's; what is not finite as null, which JSON has no number for."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
