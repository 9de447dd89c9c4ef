"""The progress bar over cells."""

from __future__ import annotations

import warnings
from typing import Any


def progress_bar(total: int, shown: bool, *, weighted: bool = False, initial: int = 0) -> Any:
    """A tqdm bar over cells; where they are weighted by their cost it shows shares and the time left alone."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # a notebook without widgets gets the bar of a terminal
        from tqdm.auto import tqdm

    form = "{desc}{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left" if weighted else None
    return tqdm(total=total, initial=initial, disable=not shown, unit="cell", bar_format=form)
