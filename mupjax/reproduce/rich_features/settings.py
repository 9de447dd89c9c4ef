"""The settings of `rich_features`: its parts."""

from __future__ import annotations

from mupjax.reproduce.parts import MAIN, WIDE, Part

WIDE_STEP = 6  # what width 10^6 can be trained for: every step asks every hidden matrix in 32 new directions
_DATA = {"classes": (0, 1), "train_size": 32, "test_size": None}
_FULL = {"seeds": 5, "steps": 300, "centred": False, "particles": 4096, "limit_runs": 16, "max_directions": 512}
_QUICK = {"seeds": 5, "steps": 80, "centred": False, "particles": 512, "limit_runs": 4, "max_directions": 256}


def parts(quick: bool = False) -> list[Part]:
    """Return the study's parts.

    Args:
      quick: fewer widths, seeds, steps and depths, too few for some claims, which then are 'undecided'.

    Example:
      >>> [part.name for part in parts()][:4]
      ['main', 'wide', 'relu', 'minibatch']
    """
    base: dict[str, object] = _QUICK if quick else _FULL
    few = base if quick else base | {"particles": 2048, "limit_runs": 4}
    widths = (128, 512) if quick else (256, 1024)
    one = few | {"parametrizations": ("mup",), "widths": widths}
    steps = {"gram_steps": (0, WIDE_STEP, -1)}
    every = (128, 256, 512) if quick else (64, 128, 256, 512, 1024, 2048, 4096)
    wide = base | {"steps": WIDE_STEP, "matrix_free_from": 1}
    wide |= {"widths": (32768,), "seeds": 3} if quick else {"widths": (16384, 65536, 1048576)}
    depths = (1, 5) if quick else tuple(range(1, 9))
    deep = one | {"learning_rate": 0.5}  # at rate 1 training is unstable, and depends on the width, from 6 layers on
    eight = _DATA | {"train_size": 4 if quick else 8}
    covariance = {"widths": (64, 256) if quick else (64, 256, 1024, 4096), "runs": 50 if quick else 400}
    covariance |= {"particles": 1024, "limit_runs": 8} if quick else {"particles": 4096, "limit_runs": 16}
    sizes = _DATA | ({"train_size": 64, "test_size": 100} if quick else {"train_size": 128, "test_size": 180})
    test = few | {"widths": widths[-1:], "steps": 60 if quick else 100}
    updates: dict[str, object] = {"parametrizations": ("mup",), "widths": (128, 512) if quick else (256, 1024, 4096)}
    updates |= {"depth": 3, "activation": "tanh", "learning_rate": 1.0, "steps": 10, "seeds": 5, "batch_size": 32}
    updates |= {"observe": ("contributions",), "observe_inputs": 32}
    return [
        Part(MAIN, "the paper's experiment", _DATA, base | steps | {"widths": every}),
        Part(WIDE, "networks without hidden matrices", _DATA, wide),
        Part("relu", "ReLU in place of tanh", _DATA, one | {"activation": "relu", "learning_rate": 0.3}),
        Part("minibatch", "batches of 8", _DATA, one | {"batch_size": 8}),
        *(Part(f"depth-{depth}", f"{depth} hidden layers", _DATA, deep | {"depth": depth}) for depth in depths),
        Part("duplicated", "an input twice", _DATA, one, "duplicated"),
        Part("opposite", "an input and its negative", _DATA, one, "opposite"),
        Part("correlated", "an input and a near copy", _DATA, one, "correlated"),
        Part("updates", "what every layer's own updates do", _DATA, updates, kind="training"),
        Part("covariance", "covariance preservation", eight, covariance, kind="covariance"),
        Part("test", "test errors", sizes, test),
        Part("linearized", "test errors of first-order models", sizes, test | {"linearize": True}),
    ]
