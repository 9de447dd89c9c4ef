"""Assumptions of the theorems, checked on a part's own inputs and activation."""

from __future__ import annotations

import math

from mupjax.activations import check_good
from mupjax.reproduce.parts import Part
from mupjax.statistics import Verdict, exact
from mupjax.task import Task

BROKEN = ("duplicated", "opposite")  # changes of the inputs that break Assumption 4.1


def judge_hypotheses(part: Part, task: Task) -> list[Verdict]:
    """Return verdicts on Assumption 4.1 for the training inputs and, of a search, on 4.3 for the activation.

    Parts that are there to break an assumption are expected to.

    Example:
      >>> import numpy as np
      >>> part = Part("duplicated", "", {}, {}, "duplicated")
      >>> verdict, _ = judge_hypotheses(part, Task(np.ones((2, 3)), np.ones((2, 1))))
      >>> verdict.claim, verdict.verdict
      ('duplicated: inputs break Assumption 4.1: products that are zero or repeated', 'reproduced')
    """
    inputs = task.check_inputs()
    broken = part.change in BROKEN
    words = "break" if broken else "meet"
    claim = f"{part.name}: inputs {words} Assumption 4.1: products that are zero or repeated"
    count = inputs.num_orthogonal + inputs.num_equal
    found = [exact(claim, count, (1, math.inf) if broken else (0, 0), group="Assumption 4.1")]
    name = part.settings.get("activation", "tanh")
    good = check_good(name)
    broken = name == "relu"
    words = "breaks" if broken else f"has no counterexample in {good.trials} trials, which prove nothing, against"
    claim = f"{part.name}: {name} {words} Assumption 4.3: clauses refuted, of 4"
    return [*found, exact(claim, len(good.refuted), (1, 4) if broken else (0, 0), group="Assumption 4.3")]
