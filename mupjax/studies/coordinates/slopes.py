"""What a coordinate check shows: powers of the width in every layer's coordinates and updates, and verdicts on them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mupjax.statistics import CONTRADICTED, NOT_SHOWN, REPRODUCED, Slope, Verdict, fit_slope

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
    'contradicted' where it lies wholly outside at some step, else 'not shown'. An output of fixed size may fall: what
    it starts from falls by design (its change and its own update may not). A layer whose parameters grow with the
    width and that has learnt nothing at the last step, at any width, is contradicted; one that was not measured is 'not
    shown'. The control's claim is that it is caught: some layer's change grows. In a verdict's bound h is half the
    interval; its figure is the slope at the step that decides.

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
            claim = f"{model}, {what}: not measured"
            verdicts.append(_undetermined(claim, REMEDIES, NOT_SHOWN, dataset.sizes["seed"]))
    return verdicts


def _layer_verdict(dataset: xr.Dataset, model: str, layer: str, quantity: str) -> Verdict:
    at = {"model": model, "layer": layer}
    fixed_size = bool(dataset["fixed_size"].sel(at))
    may_fall = quantity == "coordinate" and fixed_size
    limit = BOUND_OF_SUMS if quantity != "coordinate" and fixed_size else BOUND
    found = [slope for slope in slopes(dataset, model, layer, quantity) if slope is not None]
    claim = f"{model}, {layer}: mean |{quantity}| " + ("does not grow" if may_fall else "is constant in width")
    sizes = [slope.slope if may_fall else abs(slope.slope) for slope in found]
    lower = [size - slope.half_width for size, slope in zip(sizes, found, strict=True)]
    upper = [size + slope.half_width for size, slope in zip(sizes, found, strict=True)]
    bound = f"{'slope' if may_fall else '|slope|'} + h <= {limit:.2f} at every step"
    if quantity == "update" and (dataset["update"].sel(at).isel(step=-1).values == 0).all():
        never = CONTRADICTED if bool(dataset["owns"].sel(at)) else NOT_SHOWN
        return _undetermined(f"{claim}: never learns", "not 0 at the last step", never, dataset.sizes["seed"])
    if not found:
        return _undetermined(claim, bound, NOT_SHOWN, dataset.sizes["seed"])
    if any(low > limit for low in lower):
        return _verdict(claim, found[int(np.nanargmax(lower))], bound, CONTRADICTED)
    worst = found[int(np.argmax(np.nan_to_num(upper, nan=math.inf)))]
    shown = all(high <= limit for high in upper)
    return _verdict(claim, worst, bound, REPRODUCED if shown else NOT_SHOWN)


def _control_verdict(dataset: xr.Dataset, model: str, layers: list[str]) -> Verdict:
    found = [slope for layer in layers for slope in slopes(dataset, model, layer, "change") if slope is not None]
    lower = [slope.slope - slope.half_width for slope in found]
    claim, bound = f"{model}: some layer's mean |change| grows", f"slope - h > {BOUND:.2f}"
    if not found:
        return _undetermined(claim, bound, NOT_SHOWN, dataset.sizes["seed"])
    best = found[int(np.argmax(np.nan_to_num(lower, nan=-math.inf)))]
    if any(low > BOUND for low in lower):
        return _verdict(claim, best, bound, REPRODUCED)
    level = all(slope.slope + slope.half_width <= BOUND for slope in found)
    return _verdict(claim, best, bound, CONTRADICTED if level else NOT_SHOWN)


def _verdict(claim: str, slope: Slope, bound: str, verdict: str) -> Verdict:
    return Verdict(claim, None, slope.slope, slope.stderr, slope.seeds, bound, verdict)


def _undetermined(claim: str, bound: str, verdict: str, seeds: int) -> Verdict:
    """Return the verdict on a claim of which there is no power of the width."""
    return Verdict(claim, None, math.nan, None, seeds, bound, verdict)
