"""Catapults: what a large first rate does to loss and sharpness."""

from mupjax.studies.catapults.study import catapult_study as catapult_study
