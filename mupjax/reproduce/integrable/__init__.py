r"""Integrable parametrizations (Hajjar, Chizat & Giraud 2021, arXiv:2110.15596): settings of the paper's experiments.

Deep networks under IP do not leave their start; IP-LLR, whose first step has large rates, trains, and its features have
few directions after one step; biases and non-centred weights do not help. Settings and published numbers are those of
the authors' code and its stored notebooks, whose first layer is :math:`h^1 = A \xi + b` without :math:`1/\sqrt d`: in
this library's convention its rate is d times as large, and its Gaussians have variance v d/(d + 1). The figure of deep
IP is older than the others: its code drew A with variance v, and kept a fifth of MNIST aside; only so are its numbers
found again. Of that time are the stored losses of IP-LLR that explode after four steps, too: they come out where the
first step's rates stay (`ip_llr_unswitched`), not where their calibration alone is left out.
"""

from __future__ import annotations

from functools import partial

from mupjax.reproduce.integrable import figures
from mupjax.reproduce.integrable.captions import CAPTIONS
from mupjax.reproduce.integrable.claims import judge as judge
from mupjax.reproduce.integrable.settings import parts as parts
from mupjax.reproduce.integrable.settings import preset as preset
from mupjax.reproduce.papers import Paper, run_paper

PAPER = Paper(
    name="integrable",
    title="Integrable parametrizations (Hajjar et al. 2021): deep IP is stuck, large initial rates let it train.",
    dataset="auto",
    datasets=("mnist", "cifar10"),
    dataset_help="mnist as in the paper (and cifar10), or digits; 'auto' is mnist where both are found.",
    quick_help="Fewer widths, seeds and steps: under three minutes.",
    parts=lambda setting: parts(setting.dataset, setting.quick),
    judge=lambda found, setting: judge(found, published=setting.dataset == "mnist" and not setting.quick),
    figures=figures.draw,
    captions=CAPTIONS,
    tables=lambda found: [],
    example="mupjax reproduce integrable --quick --dataset digits --parts line --out ip",
)
reproduce = partial(run_paper, PAPER)
