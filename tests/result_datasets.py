"""Datasets of the structure that studies return, from formulas: what tests of figures and reports read."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from mupjax import metrics

NAMES = ("sp", "ntp", "mup", "ip", "hp", "ip_llr")
WORDS = {
    "kernel": "kernel limit",
    "feature": "feature-learning limit: not computed",
    "trivial": "trivial: stuck at initialisation",
}
KINDS = ("kernel", "kernel", "feature", "trivial", "kernel", "feature")
RESOLUTION = 4e-13
SGD, ADAM = 2.0 ** np.arange(-3, 4), 2.0 ** np.arange(-10, -4)


def comparison(names=NAMES[:4], widths=(64, 256, 1024), seeds=3, steps=20, inputs=32, depth=2, test=True):
    """A Dataset of `compare`'s structure from formulas: kernel limits at infinity, NaN for the other kinds."""
    sizes = np.array([float(max(w) if isinstance(w, tuple) else w) for w in widths] + [math.inf])
    labels = ["x".join(map(str, w)) if isinstance(w, tuple) else str(w) for w in widths] + ["infinite"]
    kinds = KINDS[: len(names)]
    row, layer = np.arange(1.0, len(names) + 1)[:, None, None], np.arange(1.0, depth + 1)
    root = sizes[:, None] ** -0.5  # zero at infinity
    spread = np.where(np.isinf(sizes)[:, None], 1.0, 1 + 0.1 * np.arange(seeds))  # the limit's row is repeated
    whole = (len(names), len(sizes), seeds, 2, depth)
    arrays = {}
    for name, floor in (("train_loss", 1e-3), ("test_loss", 1e-2))[: 2 if test else 1]:
        curve = 0.5 * np.exp(-0.1 * row[..., None] * np.arange(steps + 1)) + floor * (1 + root[..., None])
        arrays[name] = (curve * spread[..., None]).astype(np.float32)
    factors = {
        "diversity": metrics.sampling_factor(sizes, inputs),
        "space_time_lambda_min": metrics.sampling_factor(sizes, 2 * inputs),
    }
    for features in "hx":
        arrays[f"feature_change_{features}"] = (row * root * spread)[..., None, None] * np.stack([0 * layer, layer])
        for metric, factor in factors.items():
            value = 1e-3 * (row * factor[:, None] * spread)[..., None, None] * layer
            if metric != "diversity":
                value[:, -1] = 0.0  # first and last features are the same in a kernel limit
            value = np.where(value > 0, value, -1e-15)  # as rounding leaves a zero
            arrays[f"{metric}_{features}"] = np.broadcast_to(value, whole)
            arrays[f"{metric}_{features}_resolution"] = np.full(whole, RESOLUTION)
        vectors = np.random.default_rng(0).normal(size=(*whole, inputs, 2 * inputs))
        arrays[f"{features}_gram"] = vectors @ np.swapaxes(vectors, -1, -2) / (2 * inputs)
    trailing = {1: ("step",), 2: ("gram_step", "layer"), 4: ("gram_step", "layer", "gram_input", "gram_input_2")}
    variables = {}
    for name, array in arrays.items():
        array = array.copy()
        array[[kind != "kernel" for kind in kinds], -1] = np.nan
        dims = ("parametrization", "width", "seed", *trailing[array.ndim - 3])
        variables[name] = (dims, array, {"units": "1", "long_name": f"the {name.replace('_', ' ')}"})
    coords = {
        "parametrization": list(names),
        "width": ("width", sizes, {"units": "hidden units", "long_name": "width"}),
        "width_label": ("width", labels),
        "seed": np.arange(seeds),
        "step": np.arange(steps + 1),
        "gram_step": [0, steps],
        "layer": np.arange(1, depth + 1),
        "learning_rate": ("parametrization", [0.3 * (i + 1) for i in range(len(names))]),
        "classification": ("parametrization", list(kinds)),
        "limit": ("parametrization", [WORDS[kind] for kind in kinds]),
        "diversity_sampling_factor": ("width", factors["diversity"]),
        "space_time_sampling_factor": ("width", factors["space_time_lambda_min"]),
    }
    arguments = '{"batch_size": null, "centred": true, "depth": 2, "learning_rate": null, "widths": [64, [32, 16]]}'
    return xr.Dataset(
        variables, coords, {"kind": "comparison", "arguments": arguments, "version_jax": "0.1.2", "device": "abacus"}
    )


def diverge(dataset, **where):
    """Turn runs into NaN from the second step on, as a diverged run is."""
    for name, variable in dataset.data_vars.items():
        axis = "step" if "step" in variable.dims else "gram_step"
        cells = {**where, axis: slice(1, None)}
        dataset[name][{k: v for k, v in cells.items() if k in variable.dims}] = np.nan
    return dataset


def sweep(names=("sp", "mup"), optimizers=("sgd", "adam"), depths=(2,), widths=(64, 256, 1024), seeds=3, test=True):
    """A Dataset of `mupjax.sweep`'s structure: parabolas in log rate; sp's best rate falls as the root of the width.

    More than two octaves above the best rate seed 0 diverges, more than three octaves above it all do.
    """
    sizes = np.array([float(max(w) if isinstance(w, tuple) else w) for w in widths])
    labels = ["x".join(map(str, w)) if isinstance(w, tuple) else str(w) for w in widths]
    rates = np.unique(np.concatenate([{"sgd": SGD, "adam": ADAM}[name] for name in optimizers]))
    was_run = np.stack([np.isin(rates, {"sgd": SGD, "adam": ADAM}[name]) for name in optimizers])
    best = np.array([{"sgd": 1.0, "adam": 2.0**-7}[name] for name in optimizers])[:, None]
    shape = (len(names), len(depths), len(optimizers), len(sizes), len(rates), seeds)
    best = np.stack([best * (sizes / sizes[0]) ** (-0.5 * (name == "sp")) for name in names])[:, None, :, :, None, None]
    octaves = np.log2(rates[:, None] / best)
    final = 0.02 * (1 + 10 / np.sqrt(sizes[:, None, None])) * (1 + octaves**2) * (1 + 0.1 * np.arange(seeds))
    final = np.broadcast_to(final * np.arange(1, len(depths) + 1)[:, None, None, None, None], shape).copy()
    final[np.broadcast_to(octaves > np.where(np.arange(seeds) == 0, 2, 3), shape)] = np.nan
    variables = {}
    for name in ("train_loss", "test_loss")[: 2 if test else 1]:
        curves = np.stack([np.full(shape, 0.5), final * (1 + (name == "test_loss"))], -1).astype(np.float32)
        curves[~np.broadcast_to(was_run[:, None, :, None], shape)] = np.nan
        dims = ("parametrization", "depth", "optimizer", "width", "learning_rate", "seed", "step")
        long_name = {"train_loss": "training loss", "test_loss": "test loss"}[name]
        variables[name] = (dims, curves, {"units": "1", "long_name": long_name})
    variables["was_run"] = ("optimizer", "learning_rate"), was_run
    coords = {
        "parametrization": list(names),
        "depth": list(depths),
        "optimizer": list(optimizers),
        "width": ("width", sizes, {"units": "hidden units", "long_name": "width"}),
        "width_label": ("width", labels),
        "learning_rate": rates,
        "seed": np.arange(seeds),
        "step": [0, 200],
    }
    arguments = '{"batch_size": 64, "steps": 200, "optimizers": ["sgd", "adam"], "widths": [64, 256, 1024]}'
    return xr.Dataset(
        variables, coords, {"kind": "sweep", "arguments": arguments, "version_jax": "0.1.2", "device": "abacus"}
    )


def with_optimum(dataset, seeds=3):
    """The sweep with a best rate for every seed, in halves of an octave about the line, and its drift."""
    names, optimizers, widths = (dataset[name].values for name in ("parametrization", "optimizer", "width"))
    drift = np.array([[-0.5 * (name == "sp")] * len(optimizers) for name in names])
    level = np.log2([{"sgd": 1.0, "adam": 2.0**-7}[name] for name in optimizers])
    logs = level[:, None] + drift[..., None] * np.log2(widths / widths[0])
    spread = np.linspace(-0.5, 0.5, seeds) if seeds > 1 else np.zeros(1)
    dims = ("parametrization", "optimizer")
    return dataset.assign_attrs(kind="transfer").assign(
        best_rate=((*dims, "width", "seed"), 2.0 ** (logs[..., None] + spread), {"units": "1"}),
        drift=(dims, drift),
        drift_half_width=(dims, np.full(drift.shape, 0.034)),
    )


def coordinates(models=("mup", "sp"), layers=("layer_1", "layer_2", "readout"), widths=(64, 128, 256, 512), seeds=3):
    """A Dataset of a coordinate check: level in muP, while in sp all changes grow as the root of the width."""
    steps, sizes = np.arange(5), np.array(widths, float)
    layer = np.arange(1.0, len(layers) + 1)[:, None, None, None]
    growth = np.stack([(sizes / 64) ** (0.5 * (model == "sp")) for model in models])[:, None, :, None, None]
    change = 0.1 * growth * layer * np.sqrt(steps) * (1 + 0.1 * np.arange(seeds)[:, None])
    dims = ("model", "layer", "width", "seed", "step")
    words = {
        "coordinate": "mean |coordinate| of the layer's output",
        "change": "mean |change of a coordinate| since step 0",
        "update": "mean |own update| of the layer",
    }
    variables = {
        name: (dims, values, {"units": "1", "long_name": text})
        for (name, text), values in zip(words.items(), (0.5 + change, change, 0.5 * change), strict=True)
    }
    coords = {
        "model": list(models),
        "layer": list(layers),
        "width": ("width", sizes, {"units": "hidden units", "long_name": "width"}),
        "seed": np.arange(seeds),
        "step": ("step", steps, {"units": "steps"}),
        "control": ("model", [model == "sp" for model in models]),
        **{
            name: (("model", "layer"), np.ones((len(models), len(layers)), bool))
            for name in ("measured", "updated", "owns")
        },
        "fixed_size": (("model", "layer"), np.tile(np.array(layers) == "readout", (len(models), 1))),
    }
    arguments = '{"depth": 2, "optimizer": "sgd", "steps": 4, "widths": [64, 128, 256, 512]}'
    return xr.Dataset(
        variables,
        coords,
        {"kind": "coordinate check", "arguments": arguments, "version_jax": "0.1.2", "device": "abacus"},
    )


def training(names=("mup", "ip_llr"), widths=(64, 256), seeds=2, steps=10, depth=3):
    """A Dataset of a training study of one variable's function, with ranks, contributions and changes of the kernel."""
    sizes, step = np.array(widths, float), np.arange(steps + 1)
    shape = (len(names), len(sizes), seeds)
    cell = np.arange(1.0, 1 + math.prod(shape)).reshape(shape)
    x = np.linspace(-1, 1, 5)[:, None]
    dims = ("parametrization", "width", "seed")
    curves = np.exp(-0.1 * cell[..., None] * step)
    f = cell[..., None, None, None] * np.stack([0 * x, x])
    arrays = {
        "batch_loss": (("step",), np.where(step < steps, curves, np.nan)),
        "initial_rate": (("kernel",), np.ones((*shape, depth + 1))),
        "clipped": (("kernel",), np.zeros((*shape, depth + 1), bool)),
        "train_loss": ((), curves[..., -1]),
        "predictions": (("time", "test_index", "output"), f),
        "rank_h": (("step", "layer"), np.full((*shape, steps + 1, depth), 3, np.int32)),
        "contribution": (("step", "kernel", "part"), np.ones((*shape, steps + 1, depth + 1, 3))),
        "ntk_change": (("step",), curves[..., ::-1]),
    }
    variables = {name: ((*dims, *trailing), values, {"units": "1"}) for name, (trailing, values) in arrays.items()}
    for name in ("train", "test"):
        variables |= {f"{name}_input": ((f"{name}_index", "input_dim"), x)}
        variables |= {f"{name}_target": ((f"{name}_index", "output"), x)}
    coords = {
        "parametrization": list(names),
        "width": ("width", sizes, {"units": "hidden units", "long_name": "width"}),
        "step": ("step", step, {"units": "updates"}),
        "kernel": np.arange(1, depth + 2),
        "layer": np.arange(1, depth + 1),
        "part": ["initial", "first", "later"],
        "time": ["start", "end"],
    }
    return xr.Dataset(variables, coords, {"kind": "training", "num_classes": 1, "arguments": "{}"})


def catapults(activations=("tanh",), factors=(1.0, 3.0), seeds=2, steps=10):
    """A Dataset of a study of catapults: above a factor of 2 the loss rises at first, and the sharpness falls."""
    c, step = np.array(factors)[:, None, None], np.arange(steps + 1)
    loss = np.where(c > 2, 1 + step * (steps - step) / 5, 1.0) * 0.5**step * np.ones((seeds, 1))
    observed = np.arange(0, steps + 1, 5)
    sharpness = np.where(c > 2, 4 - 0.3 * observed, 4.0) * np.ones((seeds, 1))
    whole = (len(activations), 2)
    dims = ("activation", "schedule", "factor", "seed")
    arrays = {
        "train_loss": ("step", loss),
        "rate": ("observe_step", c / 4 * np.ones_like(sharpness)),
        "sharpness": ("observe_step", sharpness),
        "cosine": ("observe_step", np.zeros_like(sharpness)),
    }
    variables = {
        name: ((*dims, dim), np.broadcast_to(values, (*whole, *values.shape)).copy())
        for name, (dim, values) in arrays.items()
    }
    coords = {
        "activation": list(activations),
        "schedule": ["constant", "following"],
        "factor": list(factors),
        "step": step,
        "observe_step": observed,
    }
    return xr.Dataset(variables, coords, {"kind": "catapults", "arguments": "{}"})


def width_study(widths=(64, 256, 1024), dynamics="dense"):
    """A Dataset of `mupjax.limit` for some widths: errors of one network fall as n^-1/2, those of the mean as 1/n."""
    one = comparison(("mup",), widths=())
    point = np.array(widths, float)
    errors = {"run": 0.4 * point**-0.5, "mean": point**-1.0}
    variables = {}
    for kind, error in errors.items():
        variables |= {f"error_{kind}": ("point", error), f"error_{kind}_stderr": ("point", 0.1 * error)}
        variables |= {f"slope_{kind}": -0.5 if kind == "run" else -1.0, f"slope_{kind}_stderr": 0.05}
    coords = {
        "point_width": ("point", point),
        "point_dynamics": ("point", [dynamics] * len(widths)),
        "point_seeds": ("point", [8] * len(widths)),
    }
    return one.assign(variables).assign_coords(coords).assign_attrs(kind="limit")
