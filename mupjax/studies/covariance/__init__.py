"""Covariance preservation: hidden matrices against their infinite-width law."""

from mupjax.studies.covariance.study import cases as cases
from mupjax.studies.covariance.study import covariance_study as covariance_study
