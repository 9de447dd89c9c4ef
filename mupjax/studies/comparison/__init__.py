"""Networks of several widths beside their infinite-width limits."""

from mupjax.studies.comparison.study import compare as compare
