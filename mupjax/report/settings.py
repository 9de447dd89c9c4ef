"""Settings of a result in words: arguments, learning rates, versions, device, and all other attributes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mupjax.results import kind_of

if TYPE_CHECKING:
    import xarray as xr

_LABELS = {
    "key": "random key",
    "depth": "hidden layers (depth)",
    "depths": "hidden layers (depths)",
    "widths": "widths (hidden units)",
    "seeds": "seeds of each width",
    "centred": "centred (f − f₀)",
    "memory_gb": "memory budget (GB)",
}
_DEFAULTS = {"batch_size": "full batch", "learning_rate": "default"}


def settings(dataset: xr.Dataset) -> list[tuple[str, str]]:
    """Return the names and values of what was run, both as plain text.

    Raises:
      ValueError: for an unknown `attrs["kind"]`.
    """
    attrs = {str(name): value for name, value in dataset.attrs.items()}
    arguments = _parsed(attrs.pop("arguments", "{}"), "arguments")
    arguments = kind_of(dataset).settings(dataset, arguments)
    plan = _parsed(attrs.pop("plan", "{}"), "plan")
    if {"cells", "programs"} <= set(plan):
        plan = {"plan": f"{len(plan['cells'])} cells, {len(plan['programs'])} compiled programs"}
    versions = {name.removeprefix("version_"): attrs.pop(name) for name in list(attrs) if name.startswith("version_")}
    if not attrs.pop("complete", True):
        attrs["state"] = "not complete: some cells are not done"
    for name in ("kind", "cell_dims", "cell_variables"):
        attrs.pop(name, None)
    rows = [(_LABELS.get(name, name.replace("_", " ")), _readable(name, value)) for name, value in arguments.items()]
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
        return ", ".join(
            "x".join(map(str, each)) if isinstance(each, list) else _readable(name, each) for each in value
        )
    if isinstance(value, dict) and "name" in value:  # a record, as of a parametrization
        return str(value["name"])
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return str(value)
