"""Assumptions of the theorems, checked on a part's own inputs and activation."""

from __future__ import annotations

from mupjax.activations import check_good
from mupjax.reproduce.parts import Part
from mupjax.statistics import Verdict, settle
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
    count, bound = inputs.num_orthogonal + inputs.num_equal, "> 0" if broken else "0"
    found = [Verdict(claim, None, float(count), None, 1, bound, settle(inputs.holds != broken, inputs.holds == broken))]
    name = part.settings.get("activation", "tanh")
    good = check_good(name)
    broken = name == "relu"
    words = "breaks" if broken else "has no counterexample against"
    claim = f"{part.name}: {name} {words} Assumption 4.3: clauses refuted, of 4"
    refuted, bound = len(good.refuted), "> 0" if broken else f"0 in {good.trials} trials, which is no proof"
    word = settle(broken == bool(refuted), broken != bool(refuted))
    return [*found, Verdict(claim, None, float(refuted), None, 1, bound, word)]
