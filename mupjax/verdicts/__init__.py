"""Verdicts on claims: what a claim says, what was found, whether that settles it."""

from mupjax.verdicts.record import CONTRADICTED as CONTRADICTED
from mupjax.verdicts.record import NOT_SHOWN as NOT_SHOWN
from mupjax.verdicts.record import REPRODUCED as REPRODUCED
from mupjax.verdicts.record import VERDICTS as VERDICTS
from mupjax.verdicts.record import Verdict as Verdict
from mupjax.verdicts.record import settle as settle
from mupjax.verdicts.record import write as write
from mupjax.verdicts.slopes import Slope as Slope
from mupjax.verdicts.slopes import fit_slope as fit_slope
from mupjax.verdicts.slopes import mean_slope as mean_slope
from mupjax.verdicts.theorems import corollary_4_6 as corollary_4_6
from mupjax.verdicts.theorems import feature_floor as feature_floor
from mupjax.verdicts.theorems import theorem_4_5 as theorem_4_5
