r"""Rich features and global convergence in muP (Chen, Yang, Zhao & Gu 2025, arXiv:2503.09565): settings and claims.

The paper's experiment (Sec. 5): a multilayer perceptron with three hidden layers on CIFAR-10 under SP, NTP, IP and muP;
feature change, feature diversity and space-time non-degeneracy against width. Here on 32 images of two classes, each
with the infinite-width value beside it, and beyond the paper other depths, ReLU, minibatches, inputs that break
Assumption 4.1, test errors and first-order models. The paper shows its results as figures; where it prints no number,
`Verdict.paper` holds what its theory says (a power of the width) or None.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from mupjax.reproduce.papers import Paper, Setting, run_paper
from mupjax.reproduce.parts import MAIN, task_of
from mupjax.reproduce.rich_features import figures, hypotheses, tables
from mupjax.reproduce.rich_features.captions import CAPTIONS
from mupjax.reproduce.rich_features.claims import judge as judge
from mupjax.reproduce.rich_features.settings import parts as parts
from mupjax.statistics import Verdict

if TYPE_CHECKING:
    import xarray as xr


def judge_all(found: Mapping[str, xr.Dataset], setting: Setting) -> list[Verdict]:
    """Return the verdicts on what the theorems assume, of the parts that were run, then those on their claims."""
    assumed = []
    for part in parts(setting.quick):
        if part.name in found and (part.name in (MAIN, "relu") or part.change != "none"):
            assumed += hypotheses.judge_hypotheses(part, task_of(part, setting.dataset, setting.data_dir))
    return [*assumed, *judge(found)]


PAPER = Paper(
    name="rich-features",
    title="Rich features and global convergence in muP (Chen et al. 2025): feature change, diversity, non-degeneracy.",
    dataset="auto",
    datasets=("cifar10",),
    dataset_help="cifar10 as in the paper, digits, ...; 'auto' is cifar10 where its files are found.",
    quick_help="Fewer widths, seeds and steps: under three minutes.",
    parts=lambda setting: parts(setting.quick),
    judge=judge_all,
    figures=figures.draw,
    captions=CAPTIONS,
    tables=tables.of_parts,
    example="mupjax reproduce rich-features --quick --parts depth-1,relu --out rich",
)
reproduce = partial(run_paper, PAPER)
