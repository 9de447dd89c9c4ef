"""Programs broken on purpose, and the judges that ought to see them: of `make study-power` and of a test's small form.

A broken program is muP with one exponent or constant wrong, trained under muP's name. Its networks take the place of
muP's in the Datasets that the judges read; infinite-width values, controls and other parametrizations stay right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

import mupjax
from mupjax.parametrization import Parametrization
from mupjax.reproduce import rich_features
from mupjax.statistics import Verdict
from mupjax.studies import coordinates
from mupjax.studies.training import training_study


def _rates(preset: Parametrization, **factors: float) -> Parametrization:
    return replace(preset, rates=preset.rates._replace(**factors))


def _powers(preset: Parametrization, **steps: float) -> Parametrization:
    """Multiply rates by powers of the width."""
    moved = {
        name: exponents._replace(**{role: getattr(exponents, role) - step for role, step in steps.items()})
        for name, exponents in (("c", preset.c), ("adam_c", preset.adam_c))
    }
    return replace(preset, **moved)


def _readout(preset: Parametrization, power: float) -> Parametrization:
    return replace(preset, b=preset.b._replace(output=power))


def _sigma(preset: Parametrization, factor: float) -> Parametrization:
    return replace(preset, sigma=preset.sigma._replace(hidden=factor * preset.sigma.hidden))


BROKEN: dict[str, Callable[[Parametrization], Parametrization]] = {
    "hidden rate x n^1/2": partial(_powers, hidden=0.5),
    "hidden rate x n^-1/2": partial(_powers, hidden=-0.5),
    "hidden rate x n^1/4": partial(_powers, hidden=0.25),
    "hidden layers frozen": partial(_rates, hidden=0.0),
    "readout rate 0": partial(_rates, output=0.0),
    "hidden and readout rate 0": partial(_rates, hidden=0.0, output=0.0),
    "input rate x n^-1/2": partial(_powers, input=-0.5),
    "readout init n^-1/2": partial(_readout, power=0.5),
    "readout init n^-3/4": partial(_readout, power=0.75),
    "hidden sigma 2": partial(_sigma, factor=2.0),
    "hidden updates of the wrong sign": partial(_rates, hidden=-1.0),
}

TASK = {"classes": (0, 1), "train_size": 8, "test_size": None}
WIDTHS = (64, 256, 1024)
RICH: dict[str, Any] = {"widths": WIDTHS, "seeds": 8, "steps": 30, "centred": False, "gram_steps": (0, 6, -1)}
LIMIT: dict[str, Any] = {"particles": 512, "limit_runs": 4, "max_directions": 96}
UPDATES: dict[str, Any] = {"widths": WIDTHS, "depth": 3, "seeds": 8, "steps": 6, "learning_rate": 1.0}


def right(key: int) -> dict[str, xr.Dataset]:
    """Return the Datasets of a right program: the parts of `rich_features` in small."""
    task = mupjax.datasets.load("digits", **TASK)
    data = mupjax.compare(task, key=key, **RICH, **LIMIT)
    y = np.asarray(task.y_train)
    return {"main": data.assign(targets=(("train_input", "output"), y)), "updates": updates(mupjax.mup(), key)}


def updates(preset: Parametrization, key: int, **settings: Any) -> xr.Dataset:
    """Return what every layer's own updates give its preactivations; settings in place of UPDATES."""
    task = mupjax.datasets.load("digits", **TASK)
    batch = {"batch_size": 8, "observe": ("contributions",), "observe_inputs": 8}
    return training_study(task, parametrizations=(preset,), activation="tanh", key=key, **batch, **(UPDATES | settings))


def with_networks(found: dict[str, xr.Dataset], preset: Parametrization, key: int) -> dict[str, xr.Dataset]:
    """Return right Datasets in which muP's networks were trained under another preset."""
    task = mupjax.datasets.load("digits", **TASK)
    broken = mupjax.compare(task, parametrizations=(preset,), key=key, limit=False, **RICH)
    main = found["main"].copy(deep=True)
    finite = main["width"].values[np.isfinite(main["width"].values)]
    for name, values in main.data_vars.items():
        if "width" in values.dims and "parametrization" in values.dims and name in broken:
            cells = {"parametrization": "mup", "width": finite}
            main[name].loc[cells] = (
                broken[name].sel(parametrization="mup", width=finite).transpose(*_rest(values)).values
            )
    return found | {"main": main, "updates": updates(preset, key)}


def _rest(values: xr.DataArray) -> list[str]:
    return [str(dim) for dim in values.dims if dim != "parametrization"]


def judge_rich(found: dict[str, xr.Dataset]) -> list[Verdict]:
    """Return the verdicts of Chen et al. 2025 on these Datasets."""
    return rich_features.judge(found)


def judge_coordinates(preset: Parametrization, key: int, optimizer: str = "sgd") -> list[Verdict]:
    """Return the coordinate check's verdicts on a preset, the control's left out."""
    task = mupjax.datasets.load("digits", classes=None, train_size=64, test_size=None, loss="cross_entropy")
    settings = {"widths": (64, 128, 256), "seeds": 8, "control": False, "key": key, "optimizer": optimizer}
    return coordinates.judge(coordinates.coord_check(task=task, parametrization=preset, **settings))
