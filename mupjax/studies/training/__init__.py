"""A few networks, trained as papers train them."""

from mupjax.studies.training.study import training_study as training_study
