"""The papers' experiments: settings, and claims that are judged from stored Datasets alone.

Each paper is a folder with a record PAPER and a line in `papers.PAPERS`; what papers share lies beside the folders.
"""

from mupjax.reproduce.papers import PAPERS as PAPERS
from mupjax.reproduce.papers import Paper as Paper
from mupjax.reproduce.papers import Setting as Setting
from mupjax.reproduce.papers import get as get
from mupjax.reproduce.papers import run_paper as run_paper
