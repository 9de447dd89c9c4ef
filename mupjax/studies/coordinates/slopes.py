"""What a coordinate check shows: powers of the width in every layer's coordinates and updates, and verdicts on them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mupjax.statistics import Slope, Verdict, control, exact, fit_slope, not_measured, of_slope, worst

if TYPE_CHECKING:
    import xarray as xr

# A power is taken for zero within this bound: microsoft/mup holds widths 1000 and 4000 to a factor 1.2. On digits (ten
# classes, cross-entropy, three layers of tanh, widths 64 to 512, SGD and Adam) finite widths leave up to .04 of muP's
# powers of hidden layers, and 8 seeds intervals that reach to .10. One exponent wrong by 1/2 moves its layer's own
# update by .4 to .5.
BOUND = math.log(1.2) / math.log(4)
# For changes and own updates of outputs of fixed size: halfway to the next power that an exponent wrong by 1/2 gives.
# Such an output sums over the width, and the random part of the sum falls as n^-1/2: finite widths leave -.06 to -.10
# of muP's powers there, and 8 seeds intervals that reach to -.18: of 20 right runs of 8 seeds BOUND would pass 13 (SGD)
# and 3 (Adam), this bound all. ReLU leaves -.17 to -.20 to SGD's readout, which does not pass at these widths.
BOUND_OF_SUMS = 0.25

REMEDIES = (
    "under nn.scan or nn.vmap add 'intermediates': 0 to variable_axes; write what is bridged, or called by other "
    "methods than __call__, as linen modules that are called"
)


def slopes(dataset: xr.Dataset, model: str, layer: str, quantity: str) -> list[Slope | None]:
    """Return the power of the width of a layer's 'coordinate', 'change' or 'update' at every step, over seeds.

    None at step 0 where it says nothing: nothing has changed, and an output of fixed size may fall by design (muP's
    as n^-1/2). None at steps at which nothing has changed at any width (behind a readout that starts at zero).
    """
    at = dataset[quantity].sel(model=model, layer=layer).transpose("step", "width", "seed").values
    exempt = quantity != "coordinate" or bool(dataset["fixed_size"].sel(model=model, layer=layer))
    return [
        None if (exempt and step == 0) or (values == 0).all() else fit_slope(dataset["width"].values, values)
        for step, values in zip(dataset["step"].values, at, strict=True)
    ]


def judge(dataset: xr.Dataset) -> list[Verdict]:
    """Return a verdict for each layer's coordinates, changes and own updates, and one for the control.

    A claim on a layer is 'reproduced' where the 95 % interval of the power lies within a bound of zero at every step,
    'contradicted' where it lies apart from it at some step; a verdict shows the step that decides. An output of fixed
    size may fall: what it starts from falls by design (its change and its own update may not). A layer whose parameters
    grow with the width and that has learnt nothing at the last step, at any width, is contradicted; one that was not
    measured is undecided. The control's claim is that it is caught: some layer's change grows.

    Args:
      dataset: what `coord_check` returns. Nothing else enters.
    """
    verdicts = []
    for model in map(str, dataset["model"].values):
        here = dataset.sel(model=model)
        seen, owns, updated = (here[name].values for name in ("measured", "owns", "updated"))
        names = here["layer"].values
        if bool(here["control"]):
            verdicts.append(_control_verdict(dataset, model, [str(layer) for layer in names[seen]]))
            continue
        for layer in map(str, names[seen]):
            verdicts += [_layer_verdict(dataset, model, layer, quantity) for quantity in ("coordinate", "change")]
            if bool(here["updated"].sel(layer=layer)):
                verdicts.append(_layer_verdict(dataset, model, layer, "update"))
        for layer in map(str, names[owns & ~updated]):
            what = f"{layer}: mean |update|" if layer in names[seen] else layer
            why, seeds = f"not measured: {REMEDIES}", dataset.sizes["seed"]
            verdicts.append(not_measured(f"{model}, {what}", (-BOUND, BOUND), why, seeds=seeds, group=model))
    return control(verdicts)


def _layer_verdict(dataset: xr.Dataset, model: str, layer: str, quantity: str) -> Verdict:
    at = {"model": model, "layer": layer}
    fixed_size, seeds = bool(dataset["fixed_size"].sel(at)), dataset.sizes["seed"]
    may_fall = quantity == "coordinate" and fixed_size
    limit = BOUND_OF_SUMS if quantity != "coordinate" and fixed_size else BOUND
    bound = (-math.inf if may_fall else -limit, limit)
    found = [slope for slope in slopes(dataset, model, layer, quantity) if slope is not None]
    claim = f"{model}, {layer}: mean |{quantity}| {'does not grow' if may_fall else 'stays'}: power of the width"
    if quantity == "update" and (dataset["update"].sel(at).isel(step=-1).values == 0).all():
        if bool(dataset["owns"].sel(at)):
            return exact(f"{claim} (it never learns)", -math.inf, bound, seeds=seeds, group=model)
        return not_measured(claim, bound, "not measured: nothing has changed", seeds=seeds, group=model)
    if not found:
        return not_measured(claim, bound, "not measured: nothing has changed", seeds=seeds, group=model)
    return worst([of_slope(claim, slope, bound, group=model) for slope in found])


def _control_verdict(dataset: xr.Dataset, model: str, layers: list[str]) -> Verdict:
    found = [slope for layer in layers for slope in slopes(dataset, model, layer, "change") if slope is not None]
    claim, bound = f"{model}: some layer's mean |change| grows: its power of the width", (BOUND, math.inf)
    if not found:
        why, seeds = "not measured: nothing has changed", dataset.sizes["seed"]
        return not_measured(claim, bound, why, seeds=seeds, group=model)
    grows = max(found, key=lambda slope: np.nan_to_num(slope.slope - slope.half_width, nan=-math.inf))
    return of_slope(claim, grows, bound, group=model)
