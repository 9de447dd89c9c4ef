"""A few networks trained by minibatch SGD, as in the papers."""

from mupjax.studies.training.study import training_study as training_study
