"""The settings of `edge_of_chaos`: parametrizations side by side, and its parts."""

from __future__ import annotations

from dataclasses import replace

from mupjax.activations import gain
from mupjax.parametrization import Parametrization, PerRole, mup, nup, sp
from mupjax.reproduce.parts import MAIN, Part

GAIN = gain(0.5, 0.5)  # of a ReLU
FACTORS = (1.0, 1.5, 2.5, 3.0, 3.5, 4.5)
RATES = {"sp": 0.8, "mup": 0.8, "residual": 0.8, "nup": 0.24}  # at which 4 hidden layers train well
SMALL = 0.003  # of these rates: nup's step moves the last of 16 equal layers by .04, to first order


def presets(depth: int, growing: bool) -> tuple[Parametrization, ...]:
    """Return the parametrizations that are set beside each other, their base rates within: train them at rate 1.

    Args:
      depth: number of hidden layers; SP's rate falls as 1/L.
      growing: those whose widths grow with depth, nup with q = 1 and 2, or the others.

    Example:
      >>> [preset.name for preset in presets(4, growing=False)]
      ['sp', 'mup', 'residual', 'nup_q0']
    """

    def normalized(q: float) -> Parametrization:
        rates = PerRole(*(RATES["nup"] * rate for rate in (1.0, GAIN, GAIN, 1.0, 1.0)))
        return replace(nup(q=q, gain=GAIN, rates=rates), name=f"nup_q{q:g}")

    if growing:
        return normalized(1.0), normalized(2.0)
    rates = {name: PerRole(*(RATES[name],) * 5) for name in ("mup", "residual")}
    standard = sp(learning_rate_exponent=0.0, sigma=GAIN, rates=PerRole(*(RATES["sp"] / depth,) * 5))
    branches = replace(mup(sigma=GAIN, rates=rates["residual"], residual=0.5), name="residual")
    return standard, mup(sigma=GAIN, rates=rates["mup"]), branches, normalized(0.0)


def parts(quick: bool = False) -> list[Part]:
    """Return the study's parts: catapults, sharpening, kernels; depths, with widths that do not grow, and that do.

    The small steps are for one input: what a layer adds is then the same at every depth, not only bounded. `quick`
    has fewer widths, seeds and steps, less depth, and no q = 1.

    Example:
      >>> [part.name for part in parts(quick=True)][:5]
      ['main', 'sharpening', 'kernels', 'step-equal-2', 'train-equal-2']
    """
    found = [*_edge(quick), _kernels(quick)]
    one: dict[str, object] = {"num_train": 1, "dim": 64, "out_dim": 10}
    images = {"classes": None, "train_size": 600 if quick else 1200, "test_size": 300, "loss": "cross_entropy"}
    depths = (2, 4, 8) if quick else (4, 8, 16)
    common: dict[str, object] = {"activation": "relu", "observe": ("preactivations",), "observe_inputs": 60}
    trained = {"learning_rate": 1.0, "seeds": 2 if quick else 4, "steps": 60 if quick else 200, "batch_size": 60}
    first = {"learning_rate": SMALL, "seeds": 12 if quick else 48, "steps": 1, "batch_size": 1}
    several = depths[0 if quick else 1]  # the depth of several widths
    for depth in depths:
        for growing in (False, True):
            kind = "growing" if growing else "equal"
            words = f"{depth} hidden layers, widths that {'grow with depth' if growing else 'are equal'}"
            base = 16 if growing else 64
            wide = base if growing or quick else 256  # of one step: the law is that of large widths
            chosen = presets(depth, growing)
            if quick and growing:
                chosen = chosen[1:]  # q = 2, which the claims are about: every preset is a program to compile
            own = common | {"depth": depth, "parametrizations": chosen}
            step = own | first | {"widths": (wide, 4 * wide) if depth == several else (wide,)}
            found.append(
                Part(f"step-{kind}-{depth}", f"{words}: one small step", one, step, kind="training", dataset="noise")
            )
            if not quick or depth != depths[1]:
                settings = own | trained | {"widths": (base,)}
                found.append(Part(f"train-{kind}-{depth}", f"{words}: training", images, settings, kind="training"))
    if not quick:
        grown = presets(24, growing=True)[1]
        own = common | trained | {"depth": 24, "parametrizations": (grown,), "widths": (4,)}
        found.append(Part("narrow-24", "24 hidden layers of 4 k^2 units: training", images, own, kind="training"))
        found += [_deep(depth, one) for depth in (6, 12, 24, 48)]
    return found


def _edge(quick: bool) -> list[Part]:
    """Full-batch gradient descent at multiples of the inverse sharpness: catapults, and progressive sharpening."""
    four = {"classes": (0, 1), "train_size": 4, "test_size": None}
    catapults: dict[str, object] = {"activations": ("linear", "tanh", "relu")[: 2 if quick else 3], "width": 512}
    catapults |= {"factors": FACTORS, "seeds": 3 if quick else 10, "steps": 80 if quick else 200, "record_every": 4}
    slow: dict[str, object] = {"activations": ("tanh",), "width": 64, "depth": 3, "factors": (0.4, 0.6, 0.8)}
    slow |= {"schedules": ("constant",), "seeds": 3 if quick else 10, "steps": 1500, "record_every": 15}
    words = "rates below the edge of stability, and a sharpness that grows"
    return [
        Part(MAIN, "rates below, in and above the catapult window", four, catapults, kind="catapults"),
        Part("sharpening", words, {"num_train": 24, "dim": 4}, slow, kind="catapults", dataset="noise"),
    ]


def _kernels(quick: bool) -> Part:
    """How far tangent kernels move at each width; full batch."""
    two = {"classes": (0, 1), "train_size": 16, "test_size": None}
    settings: dict[str, object] = {
        "parametrizations": ("ntp", "mup"),
        "depth": 2,
        "activation": "tanh",
        "batch_size": 16,
    }
    settings |= {
        "widths": (64, 512) if quick else (64, 256, 1024),
        "seeds": 10 if quick else 30,
        "learning_rate": 1.0,
        "steps": 20,
    }
    settings |= {"observe": ("ntk",), "observe_inputs": 8, "record_every": 20}
    return Part("kernels", "how far tangent kernels move at each width", two, settings, kind="training")


def _deep(depth: int, one: dict[str, object]) -> Part:
    """The small first step where widths grow to tens of thousands: without matrices."""
    settings: dict[str, object] = {"parametrizations": (presets(depth, growing=True)[1],), "depth": depth, "steps": 1}
    settings |= {"widths": (16,), "matrix_free_from": 1, "activation": "relu", "learning_rate": SMALL, "seeds": 8}
    return Part(
        f"deep-{depth}", f"{depth} hidden layers of 16 k^2 units: one small step", one, settings, dataset="noise"
    )
