"""The main job: networks of several widths beside their infinite-width limit."""

from mupjax.studies.comparison.study import compare as compare
