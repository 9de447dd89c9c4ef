"""A self-contained HTML page of results, and the tables that the page and the terminal share."""

from mupjax.report.page import REPORT as REPORT
from mupjax.report.page import write as write
from mupjax.report.sweep_tables import format_coord_check as format_coord_check
from mupjax.report.sweep_tables import format_sweep as format_sweep
from mupjax.report.sweep_tables import format_verdicts as format_verdicts
from mupjax.report.tables import Estimate as Estimate
from mupjax.report.tables import Row as Row
from mupjax.report.tables import format_covariance as format_covariance
from mupjax.report.tables import format_table as format_table
from mupjax.report.tables import format_width_study as format_width_study
from mupjax.report.tables import summary as summary
