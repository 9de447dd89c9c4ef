"""The feature-learning limit, and how networks come to it as they grow."""

from mupjax.studies.limit.study import limit as limit
