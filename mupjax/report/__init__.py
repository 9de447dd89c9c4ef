"""A self-contained HTML page of results, and the tables that the page and the terminal share.

Tables of one kind of result stand with its study and are imported when they are first used.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from mupjax.report.numbers import Estimate as Estimate
from mupjax.report.page import REPORT as REPORT
from mupjax.report.page import write as write
from mupjax.report.verdicts import conclude as conclude
from mupjax.report.verdicts import format_verdicts as format_verdicts

if TYPE_CHECKING:
    from mupjax.studies.catapults.tables import format_catapults as format_catapults
    from mupjax.studies.comparison.tables import Row as Row
    from mupjax.studies.comparison.tables import format_table as format_table
    from mupjax.studies.comparison.tables import summary as summary
    from mupjax.studies.coordinates.tables import format_coord_check as format_coord_check
    from mupjax.studies.covariance.tables import format_covariance as format_covariance
    from mupjax.studies.limit.tables import format_width_study as format_width_study
    from mupjax.studies.training.tables import format_training as format_training
    from mupjax.sweeps.tables import format_sweep as format_sweep

_ELSEWHERE = {
    "Row": "mupjax.studies.comparison.tables",
    "format_catapults": "mupjax.studies.catapults.tables",
    "format_coord_check": "mupjax.studies.coordinates.tables",
    "format_covariance": "mupjax.studies.covariance.tables",
    "format_sweep": "mupjax.sweeps.tables",
    "format_table": "mupjax.studies.comparison.tables",
    "format_training": "mupjax.studies.training.tables",
    "format_width_study": "mupjax.studies.limit.tables",
    "summary": "mupjax.studies.comparison.tables",
}


def __getattr__(name: str) -> object:
    """Import a study's table when it is first used."""
    if name == "__all__":  # computed, so that a name stands once: pyright reads the imports above
        return __dir__()
    if name in _ELSEWHERE:
        return getattr(_import_module(_ELSEWHERE[name]), name)
    raise AttributeError(f"module 'mupjax.report' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["REPORT", "Estimate", "conclude", "format_verdicts", "write", *_ELSEWHERE]
