"""Verdicts on claims and their statistics: slopes, the jackknife, means over seeds."""

from mupjax.statistics.slopes import Slope as Slope
from mupjax.statistics.slopes import fit_slope as fit_slope
from mupjax.statistics.slopes import mean_slope as mean_slope
from mupjax.statistics.verdict import CONTRADICTED as CONTRADICTED
from mupjax.statistics.verdict import NOT_SHOWN as NOT_SHOWN
from mupjax.statistics.verdict import REPRODUCED as REPRODUCED
from mupjax.statistics.verdict import VERDICTS as VERDICTS
from mupjax.statistics.verdict import Verdict as Verdict
from mupjax.statistics.verdict import settle as settle
from mupjax.statistics.verdict import write as write

__all__ = [
    "CONTRADICTED",
    "NOT_SHOWN",
    "REPRODUCED",
    "VERDICTS",
    "Slope",
    "Verdict",
    "fit_slope",
    "mean_slope",
    "settle",
    "write",
]
