"""Verdicts on claims and their statistics: slopes, the jackknife, means over seeds."""

from mupjax.statistics.slopes import Slope as Slope
from mupjax.statistics.slopes import fit_slope as fit_slope
from mupjax.statistics.slopes import mean_slope as mean_slope
from mupjax.statistics.verdict import CONTRADICTED as CONTRADICTED
from mupjax.statistics.verdict import LEVEL as LEVEL
from mupjax.statistics.verdict import NOT_MEASURED as NOT_MEASURED
from mupjax.statistics.verdict import REPRODUCED as REPRODUCED
from mupjax.statistics.verdict import UNDECIDED as UNDECIDED
from mupjax.statistics.verdict import VERDICTS as VERDICTS
from mupjax.statistics.verdict import Bound as Bound
from mupjax.statistics.verdict import Verdict as Verdict
from mupjax.statistics.verdict import control as control
from mupjax.statistics.verdict import decide as decide
from mupjax.statistics.verdict import exact as exact
from mupjax.statistics.verdict import not_measured as not_measured
from mupjax.statistics.verdict import of_estimate as of_estimate
from mupjax.statistics.verdict import of_finite as of_finite
from mupjax.statistics.verdict import of_mean as of_mean
from mupjax.statistics.verdict import of_share as of_share
from mupjax.statistics.verdict import of_slope as of_slope
from mupjax.statistics.verdict import rows as rows
from mupjax.statistics.verdict import worst as worst
from mupjax.statistics.verdict import write as write

__all__ = [
    "CONTRADICTED",
    "LEVEL",
    "NOT_MEASURED",
    "REPRODUCED",
    "UNDECIDED",
    "VERDICTS",
    "Bound",
    "Slope",
    "Verdict",
    "control",
    "decide",
    "exact",
    "fit_slope",
    "mean_slope",
    "not_measured",
    "of_estimate",
    "of_finite",
    "of_mean",
    "of_share",
    "of_slope",
    "rows",
    "worst",
    "write",
]
