"""What the studies of papers share: their folder, and the record of verdicts that is kept beside this file."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mupjax.report.verdicts import bound_words, estimate
from mupjax.results import versions
from mupjax.statistics import Verdict, rows

HERE = Path(__file__).parent


def folder(word: str) -> Path:
    """Return where a study keeps its parts, so that it goes on where it stopped."""
    return HERE.parent / "results" / f"study-{word}"


def record(
    word: str, dataset: str, found: Mapping[str, Any], verdicts: Sequence[Verdict], parts: Sequence[Any], **more: Any
) -> None:
    """Print goals, figures and cost, and write <word>_verdicts.json with command, date and versions.

    Args:
      word: of the study: `make study-<word>`.
      dataset: whose images.
      found: {part: Dataset}.
      verdicts: on the claims.
      parts: all that there are.
      more: what else to write, as JSON.
    """
    for verdict in verdicts:
        say(verdict)
    seconds = {name: int(data.attrs["seconds"]) for name, data in found.items()}
    missing = [part.name for part in parts if part.name not in found]
    print(f"cost: {sum(seconds.values())} s on {len(os.sched_getaffinity(0))} cores, {seconds}")
    if missing:
        print(f"not run yet: {', '.join(missing)}")
    about = {"command": f"make study-{word}", "date": datetime.date.today().isoformat(), "dataset": dataset}
    about |= {"versions": versions(), "verdicts": rows(verdicts)}
    text = json.dumps(about | more | {"seconds": seconds, "not_run": missing}, indent=1)
    (HERE / f"{word}_verdicts.json").write_text(text + "\n")


def say(verdict: Verdict) -> None:
    """Print a claim, its bound, what was found and the verdict in a line."""
    print(f"goal: {verdict.claim}: {bound_words(verdict.bound)} | figure: {estimate(verdict)} | {verdict.verdict}")
