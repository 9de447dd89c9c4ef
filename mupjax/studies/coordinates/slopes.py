"""Powers of the width in every layer's coordinates, fitted to a coordinate check, and the verdicts on them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mupjax.statistics import Slope, Verdict, control, fit_slope, not_measured, of_slope, worst

if TYPE_CHECKING:
    import xarray as xr

# A power is taken for zero within this bound: microsoft/mup holds widths 1000 and 4000 to a factor 1.2. On digits (ten
# classes, cross-entropy, three layers of tanh, widths 64 to 512, SGD and Adam) finite widths leave up to .05 of muP's
# powers of hidden layers, .09 of f's change, whose random part falls as n^-1/2 (ReLU: .13 from 64 to 256). One exponent
# wrong by 1/2 moves its layer's power by .46 to .53, of the readout's rate by .11 to .22.
BOUND = math.log(1.2) / math.log(4)


def slopes(dataset: xr.Dataset, model: str, layer: str, quantity: str) -> list[Slope | None]:
    """Return the power of the width of a layer's `quantity` at every step, 'coordinate' or 'change', over seeds.

    None at step 0 where it says nothing: nothing has changed, and an output of fixed size may fall by design (muP's
    as n^-1/2). None at steps at which nothing has changed at any width (behind a readout that starts at zero).
    """
    at = dataset[quantity].sel(model=model, layer=layer).transpose("step", "width", "seed").values
    exempt = quantity == "change" or bool(dataset["fixed_size"].sel(model=model, layer=layer))
    return [
        None if (exempt and step == 0) or (values == 0).all() else fit_slope(dataset["width"].values, values)
        for step, values in zip(dataset["step"].values, at, strict=True)
    ]


def judge(dataset: xr.Dataset) -> list[Verdict]:
    """Return a verdict for each layer's coordinates and changes, and one for the control.

    A claim on a layer is 'reproduced' where the 95 % interval of the power lies within BOUND of zero at every step,
    'contradicted' where it lies apart from it at some step. An output of fixed size may fall: what it starts from falls
    by design (its change may not). The control's claim is that it is caught: some layer's change grows. A verdict shows
    the step that decides.

    Args:
      dataset: what `coord_check` returns. Nothing else enters.
    """
    verdicts = []
    for model in map(str, dataset["model"].values):
        here = dataset.sel(model=model)
        layers = [str(layer) for layer in here["layer"].values[here["measured"].values]]
        if bool(here["control"]):
            verdicts.append(_control_verdict(dataset, model, layers))
            continue
        for layer in layers:
            for quantity in ("coordinate", "change"):
                verdicts.append(_layer_verdict(dataset, model, layer, quantity))
    return control(verdicts)


def _layer_verdict(dataset: xr.Dataset, model: str, layer: str, quantity: str) -> Verdict:
    may_fall = quantity == "coordinate" and bool(dataset["fixed_size"].sel(model=model, layer=layer))
    found = [slope for slope in slopes(dataset, model, layer, quantity) if slope is not None]
    claim = f"{model}, {layer}: mean |{quantity}| {'does not grow' if may_fall else 'stays'}: power of the width"
    bound = (-math.inf if may_fall else -BOUND, BOUND)
    if not found:
        return not_measured(claim, bound, "not measured: nothing has changed", group=model)
    return worst([of_slope(claim, slope, bound, group=model) for slope in found])


def _control_verdict(dataset: xr.Dataset, model: str, layers: list[str]) -> Verdict:
    found = [slope for layer in layers for slope in slopes(dataset, model, layer, "change") if slope is not None]
    claim, bound = f"{model}: some layer's mean |change| grows: its power of the width", (BOUND, math.inf)
    if not found:
        return not_measured(claim, bound, "not measured: nothing has changed", group=model)
    grows = max(found, key=lambda slope: np.nan_to_num(slope.slope - slope.half_width, nan=-math.inf))
    return of_slope(claim, grows, bound, group=model)
