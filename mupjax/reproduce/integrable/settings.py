"""The settings of `integrable`: the parametrizations with the constants of the authors' code, and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mupjax.parametrization import Parametrization, PerRole, get
from mupjax.reproduce.parts import MAIN, Part

ACTIVATIONS = ("relu", "gelu", "elu", "tanh")
WIDTHS = (128, 256, 512, 1024, 1400)  # of the figure of deep IP
VARIANCES = {"relu": 2.0, "gelu": 4.0, "elu": 1.0, "tanh": 1.0}
_IMAGES = {
    "mnist": (784, {"train_size": 0, "test_size": 0, "standardize": (0.1307, 0.3081), "scale": "none"}),
    "cifar10": (
        1024,
        {"train_size": 0, "test_size": 0, "standardize": (0.4809, 0.2392), "scale": "none", "grayscale": True},
    ),
    "digits": (64, {"train_size": 1200, "test_size": 500}),
}


def preset(name: str, depth: int, activation: str, input_dim: int, *, early: bool = False) -> Parametrization:
    """Return a parametrization with the constants of the authors' code.

    Args:
      name: of the preset, or 'ip_llr_unswitched', IP-LLR with its first step's rates at every step.
      depth: hidden layers L.
      activation: which decides the variance of the Gaussians.
      input_dim: d.
      early: whether A has variance v, as it had when the figure of deep IP was made, instead of v/(d + 1).

    Example:
      >>> preset("ip", 3, "relu", 784).rates.input
      784.0
    """
    variance = VARIANCES[activation]
    std = variance**0.5
    first = variance * input_dim if early else variance * input_dim / (input_dim + 1)
    sigma = PerRole(first**0.5, std, 1.0, bias=std, output_bias=1.0)
    options: dict[str, Any] = {"sigma": sigma, "rates": PerRole(float(input_dim), 1.0, 1.0, 1.0, 1.0)}
    if name == "ip_llr_unswitched":
        return _unswitched(get("ip_llr", depth=depth, biases="first", **options), name)
    return get(name, depth=depth, biases="all" if name == "ip_bias" else "first", **options)


def _unswitched(ip_llr: Parametrization, name: str) -> Parametrization:
    """IP-LLR whose first step's rates stay: its bias is that of layer 1 alone."""
    first = ip_llr.c_first
    assert first is not None
    return replace(ip_llr, name=name, c=first._replace(bias=first.bias[0]), c_first=None)


def parts(dataset: str, quick: bool = False) -> list[Part]:
    """Return the study's parts for 'mnist' (and CIFAR-10 beside it), or for 'digits'.

    Args:
      dataset: whose images.
      quick: fewer widths, seeds, steps and activations, too few for the published numbers.

    Raises:
      ValueError: for another data set.

    Example:
      >>> [part.name for part in parts("mnist")][:3]
      ['main', 'vanishing-gelu-2', 'vanishing-gelu-3']
    """
    if dataset not in ("mnist", "digits"):
        raise ValueError(f"Expected `dataset` to be 'mnist' or 'digits', got dataset={dataset!r}.")
    small = quick or dataset == "digits"
    dim, images = _IMAGES[dataset]
    data = images | {"classes": None, "loss": "cross_entropy"}
    if quick and dataset != "digits":
        data |= {"train_size": 6000, "test_size": 1000}
    other = "cifar10" if dataset == "mnist" else dataset
    other_dim, other_images = _IMAGES[other]
    other_data = data | other_images | ({"train_size": 6000, "test_size": 1000} if quick and other == "cifar10" else {})
    depth, width = (4, 256) if small else (6, 1024)
    activations = ("relu", "gelu") if small else ACTIVATIONS
    deep = {"widths": (width,), "depth": depth, "learning_rate": 0.01, "batch_size": 128 if small else 512}
    if dataset == "digits":  # whose dimension, and with it the first layer's rate, is a twelfth of MNIST's
        deep["learning_rate"] = 0.1

    def training(name: str, title: str, names: Sequence[str], activation: str, settings: dict, **of: Any) -> Part:
        constants = {"input_dim": of.get("dim", dim), "early": of.get("early", False)}
        presets = tuple(preset(one, settings["depth"], activation, **constants) for one in names)
        calibrated = of.get("calibrated", tuple(one for one in names if one == "ip_llr"))
        whole = settings | {"parametrizations": presets, "activation": activation, "calibrated": calibrated}
        return Part(name, title, of.get("data", data), whole, kind="training", dataset=of.get("dataset"))

    found = []
    narrow: dict[str, object] = {"batch_size": 128, "learning_rate": 0.001, "seeds": 2}
    narrow |= {"widths": (64, 256), "steps": 100, "record_every": 5} if small else {"steps": 3750, "record_every": 25}
    images_of = {"early": True, "data": data if small else data | {"train_size": 48_000, "test_size": None}}
    for activation in activations[:2] if small else ("gelu", "relu"):
        for layers in (2, 3, 4, 5):
            widths = {} if small else {"widths": WIDTHS if layers < 4 else WIDTHS[::2]}
            settings = narrow | widths | {"depth": layers}
            title = f"IP with {activation}, {layers} hidden layers"
            found.append(
                training(f"vanishing-{activation}-{layers}", title, ("ip",), activation, settings, **images_of)
            )
    steps = {"steps": 60 if small else 600, "seeds": 2, "record_every": 5, "observe": ("contributions",)}
    for activation in activations:
        curves = steps if activation in ("relu", "gelu") else steps | {"seeds": 1}
        title = f"IP-LLR and muP with {activation}"
        found.append(training(f"curves-{activation}", title, ("ip_llr", "mup"), activation, deep | curves))
    early = deep | {"steps": 20 if small else 151, "seeds": 2 if small else 5}
    found.append(training("losses", "IP-LLR with gelu, calibrated", ("ip_llr",), "gelu", early))
    wild = deep | {"steps": 11, "seeds": 8, "batch_size": 128}  # with five no share of them decides
    title = "IP-LLR with relu, not calibrated, and with the first step's rates at every step"
    found.append(
        training("uncalibrated", title, ("ip_llr", "ip_llr_unswitched"), "relu", wild, calibrated=(), early=True)
    )
    one_step = deep | {"steps": 1, "seeds": 2 if small else 5, "observe": ("ranks",)}
    one_step |= {"observe_inputs": 500 if small else 5000}
    for activation in activations:
        title = f"ranks after one step with {activation}"
        found.append(training(f"ranks-{activation}", title, ("ip_llr", "mup"), activation, one_step))
    stuck = deep | {"steps": 60 if small else 300, "seeds": 2, "record_every": 5}
    of_other = {"dim": other_dim, "data": other_data, "dataset": other}
    for activation in activations:
        title = f"IP with biases or means, {activation}"
        names = ("ip_bias", "ip_non_centered")
        found.append(training(f"stuck-{activation}", title, names, activation, stuck, **of_other))
    line = {"widths": (256 if small else 1024,), "depth": 4, "steps": 200 if small else 1200, "batch_size": 10}
    line |= {"seeds": 3, "record_every": 10, "keep_predictions": True, "learning_rate": 0.1}
    points = {"num_train": 10, "num_test": 121}
    names = ("ip", "ip_llr", "mup")
    found.append(training("line", "functions of one variable", names, "relu", line, dim=1, data=points, dataset="line"))
    return [limits(small), *found]


def limits(small: bool) -> Part:
    """Return the part that compares IP-LLR, HP, HPZ and muP with their infinite-width limits."""
    names = ("ip_llr", "hp", "hpz", "mup")
    presets = tuple(get(name, depth=3, sigma=2.0**0.5) for name in names)
    settings: dict[str, object] = {"parametrizations": presets, "depth": 3, "activation": "relu", "steps": 16}
    settings |= {"learning_rate": 1.0, "widths": (256, 1024) if small else (1024, 4096, 16384, 65536)}
    settings |= {"matrix_free_from": 4096, "seeds": 4 if small else 16, "limit_runs": 4 if small else 16}
    settings |= {"particles": 1024 if small else 8192}
    data = {"classes": (0, 1), "train_size": 16, "test_size": None}
    return Part(MAIN, "one limit of IP-LLR, HP and HPZ, another of muP", data, settings, dataset="digits")
