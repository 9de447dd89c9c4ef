"""Settings of a result in words: arguments, learning rates, versions, device, and all other attributes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

_LABELS = {
    "key": "random key",
    "depth": "hidden layers (depth)",
    "depths": "hidden layers (depths)",
    "widths": "widths (hidden units)",
    "seeds": "seeds of each width",
    "steps": "SGD steps",
    "centred": "centred (f − f₀)",
    "memory_gb": "memory budget (GB)",
}
_DEFAULTS = {"batch_size": "full batch", "learning_rate": "default"}


def settings(dataset: xr.Dataset) -> list[tuple[str, str]]:
    """Return the names and values of what was run, both as plain text."""
    attrs = {str(name): value for name, value in dataset.attrs.items()}
    arguments = _parsed(attrs.pop("arguments", "{}"), "arguments")
    if "learning_rate" in dataset.dims:
        arguments.pop("learning_rates", None)
        was_run = dataset["was_run"].transpose("optimizer", "learning_rate").values
        for name, rates in zip(dataset["optimizer"].values, was_run, strict=True):
            arguments[f"learning rates, {name}"] = [f"{rate:.4g}" for rate in dataset["learning_rate"].values[rates]]
    elif "learning_rate" in dataset.coords:
        rates = zip(dataset["parametrization"].values, dataset["learning_rate"].values, strict=True)
        arguments["learning_rate"] = ", ".join(f"{name} {rate:g}" for name, rate in rates)
    labels = _LABELS | ({"steps": "steps"} if {"optimizer", "optimizers"} & set(arguments) else {})  # not of SGD alone
    plan = _parsed(attrs.pop("plan", "{}"), "plan")
    if {"cells", "programs"} <= set(plan):
        plan = {"plan": f"{len(plan['cells'])} cells, {len(plan['programs'])} compiled programs"}
    versions = {name.removeprefix("version_"): attrs.pop(name) for name in list(attrs) if name.startswith("version_")}
    if not attrs.pop("complete", True):
        attrs["state"] = "not complete: some cells are not done"
    for name in ("kind", "cell_dims", "cell_variables"):
        attrs.pop(name, None)
    rows = [(labels.get(name, name.replace("_", " ")), _readable(name, value)) for name, value in arguments.items()]
    rows += [(name.replace("_", " "), _readable(name, value)) for name, value in (plan | attrs).items()]
    return [*rows, ("versions", ", ".join(f"{name.replace('_', '-')} {value}" for name, value in versions.items()))]


def _parsed(text: str, name: str) -> dict[str, Any]:
    """Return a JSON object; other text stands as it is, under its name."""
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError):
        return {name: text}


def _readable(name: str, value: object) -> str:
    if value is None:
        return _DEFAULTS.get(name, "none")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join("x".join(map(str, entry)) if isinstance(entry, list) else str(entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return str(value)
