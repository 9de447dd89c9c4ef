"""Verdicts on published claims, and their JSON file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mupjax._files import write_whole

VERDICTS = "verdicts.json"
REPRODUCED, CONTRADICTED, NOT_SHOWN = "reproduced", "contradicted", "not shown"


class Verdict(NamedTuple):
    """A claim, the number found for it, and the conclusion.

    Attributes:
      claim: the claim in words.
      paper: the published number, or None.
      ours: the number found.
      stderr: standard error of `ours`, or None.
      seeds: number of seeds behind `ours`.
      bound: the condition on `ours`, in words.
      verdict: 'reproduced', 'contradicted' or 'not shown' (the error is too large to decide).
    """

    claim: str
    paper: float | None
    ours: float
    stderr: float | None
    seeds: int
    bound: str
    verdict: str


def settle(met: bool, refuted: bool) -> str:
    """Return the verdict on a claim that is met, refuted, or neither.

    Example:
      >>> settle(met=False, refuted=False)
      'not shown'
    """
    return REPRODUCED if met else CONTRADICTED if refuted else NOT_SHOWN


def write(verdicts: Sequence[Verdict], out: str | os.PathLike[str]) -> Path:
    """Write `out`/verdicts.json, a list of verdicts as JSON objects, atomically. Return its path.

    Example:
      >>> import tempfile
      >>> write([Verdict("one is one", 1.0, 1.0, None, 1, "1", "reproduced")], tempfile.mkdtemp()).name
      'verdicts.json'
    """
    rows = [{name: _plain(value) for name, value in verdict._asdict().items()} for verdict in verdicts]
    return write_whole(Path(out) / VERDICTS, (json.dumps(rows, indent=1) + "\n").encode())


def _plain(value: object) -> object:
    """Return a JSON value; numbers that are not finite become null."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
