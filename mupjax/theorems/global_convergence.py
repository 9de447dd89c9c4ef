r"""Verdicts on Theorem 4.5 and Corollary 4.6 of Chen et al. 2025 (arXiv:2503.09565) for a run.

Theorem 4.5: under its assumptions (`Task.check_inputs`, `activations.check_good`) the features of different inputs in
an infinitely wide muP network are linearly independent, at every SGD step and in every layer. Corollary 4.6: if its
weights stop changing, every error signal :math:`\chi_i = \partial \mathrm{loss}_i / \partial f_i` is zero. Both concern
infinite width; for a finite network or another parametrization the verdicts report measurements.
"""

from __future__ import annotations

import jax
import numpy as np
import numpy.typing as npt

from mupjax import metrics
from mupjax.dynamics.feature_limit import FeatureInfo
from mupjax.statistics.jackknife import jackknife
from mupjax.statistics.verdict import NOT_SHOWN, REPRODUCED, Verdict, settle
from mupjax.task import Task, loss_per_sample
from mupjax.trajectory import Trajectory

SIGMAS = 5.0  # a smallest eigenvalue must exceed this many standard errors
_ROUNDING = 16  # assumed relative error of a feature, in units of eps
CHANGE, ERROR = 1e-3, 0.05  # thresholds of `corollary_4_6`


def feature_floor(gram: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> metrics.Values:
    r"""Return the value below which a smallest eigenvalue cannot be distinguished from zero, given rounded features.

    A relative error r of every coordinate changes the features Z by E with :math:`\|E\|^2 \le r^2 \operatorname{tr} K`,
    and linearly dependent features then have :math:`\lambda_{\min} \le \|E\|^2`. Here r = 16 eps of the features'
    dtype. `metrics.Eigenvalue.resolution` covers the rounding of the contraction alone.

    Args:
      gram: [..., N, N].
      dtype: dtype of the features; defaults to the default float dtype of JAX.

    Returns:
      [...].

    Example:
      >>> bool(feature_floor(np.eye(4), np.float32) == 4 * (16 * np.finfo(np.float32).eps) ** 2)
      True
    """
    eps = _ROUNDING * float(np.finfo(jax.dtypes.canonicalize_dtype(float) if dtype is None else dtype).eps)
    return eps**2 * np.trace(np.asarray(gram, np.float64), axis1=-2, axis2=-1)


def theorem_4_5(run: Trajectory) -> list[Verdict]:
    """Return a verdict for every layer and Gram step on the linear independence of the inputs' features.

    A verdict is 'reproduced' if the smallest eigenvalue of the Gram matrix exceeds `feature_floor` and, with several
    runs, 5 standard errors. Otherwise it is 'not shown', since no number proves an eigenvalue to be zero. At step 0 the
    preactivations of layer 1 are linear in the inputs, and are independent only if the inputs are.

    Args:
      run: a Trajectory with Gram matrices. Seeds of a finite network (a runs axis) are evaluated one by one; runs of
        `dynamics.feature_limit.sample` are averaged first, with the jackknife's standard error and correction.

    Raises:
      ValueError: if `run` has no Gram matrices.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax import mup
      >>> from mupjax.dynamics import dense
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> run = dense.train(task, mup(), width=16, depth=2, learning_rate=0.5, steps=3, key=jax.random.key(0))
      >>> [v.verdict for v in theorem_4_5(run)] == ["reproduced"] * 8  # h and x, 2 layers, steps 0 and 3
      True
    """
    grams = {name: getattr(run, f"{name}_gram") for name in ("h", "x")}
    if all(gram is None for gram in grams.values()):
        raise ValueError("Expected `run` to have h_gram or x_gram, got neither.")
    found = []
    for name, gram in grams.items():
        if gram is None:
            continue
        value, stderr, floor, seeds = _smallest(run, name)
        for step, layer in np.ndindex(value.shape):
            error = None if stderr is None else float(stderr[step, layer])
            least = float(floor[step, layer])
            of_inputs = ", as far as the inputs are" if name == "h" and layer == 0 else ""
            claim = (
                f"{name} of layer {layer + 1}, Gram step {step}: inputs' features are linearly independent{of_inputs}"
            )
            bound = f"> {least:.1e}" + ("" if error is None else f" and > {SIGMAS:g} standard errors")
            exceeds = value[step, layer] > max(least, SIGMAS * (error or 0.0))
            word = REPRODUCED if exceeds else NOT_SHOWN
            found.append(Verdict(claim, None, float(value[step, layer]), error, seeds, bound, word))
    return found


def corollary_4_6(task: Task, run: Trajectory, *, change: float = CHANGE, error: float = ERROR) -> list[Verdict]:
    r"""Return two verdicts: the weights have stopped changing, and then the error signals are zero.

    The weights count as stopped if the last recorded step would change the readout by at most `change` times the change
    of the first step. The change is :math:`\|\sum_i \chi_i x^L_i\|` over the training set, computed from Gram matrices;
    the corollary's proof uses the readout alone. If the weights have not stopped, the second verdict is 'not shown':
    the corollary promises neither that they stop nor how fast. If they have, it is 'reproduced' if the root mean square
    of :math:`\chi` is at most `error` times its initial value. Otherwise it is 'not shown': either the features x^L are
    indistinguishable from dependent ones and the corollary does not apply, or the remaining error lies in directions of
    small eigenvalues that still change.

    Args:
      task: the training task, trained by SGD without momentum, full batch or not.
      run: a Trajectory with x_gram of all training inputs, and predictions, at the first and last step. Runs of a runs
        axis are evaluated one by one; the worst one decides.
      change: threshold for the relative change of the weights.
      error: threshold for the relative size of the error signals.

    Raises:
      ValueError: if `run` lacks these Gram matrices or predictions.

    Example:
      >>> import jax, numpy as np
      >>> from mupjax import mup
      >>> from mupjax.dynamics import dense
      >>> task = Task(np.eye(4), np.ones((4, 1)))
      >>> run = dense.train(task, mup(), width=64, depth=2, learning_rate=1.0, steps=50, key=jax.random.key(0))
      >>> [v.verdict for v in corollary_4_6(task, run)]
      ['reproduced', 'reproduced']
    """
    count = task.num_train
    if run.x_gram is None or np.shape(run.x_gram)[-1] != count:
        have = "none" if run.x_gram is None else f"those of {np.shape(run.x_gram)[-1]}"
        raise ValueError(f"Expected `run` to have x_gram of all {count} training inputs, got {have}.")
    if np.shape(run.predictions)[-2] < count:
        raise ValueError(f"Expected `run` to have predictions of all {count} training inputs, got fewer.")
    gram = np.asarray(run.x_gram, np.float64)[..., -1, :, :]  # of the last layer
    gram = gram.reshape(-1, *gram.shape[-3:])[:, [0, -1]]
    f = np.asarray(run.predictions)[..., [0, -1], :count, :]
    chi = np.stack([_error_signals(task, outputs) for outputs in f.reshape(-1, *f.shape[-3:])])  # [runs, 2, N, C]
    moved = np.sqrt(np.maximum(np.einsum("rtic,rtij,rtjc->rt", chi, gram, chi), 0))
    size = np.sqrt(np.mean(chi**2, axis=(-2, -1)))
    moving, left = moved[:, 1] / moved[:, 0], size[:, 1] / size[:, 0]
    stopped = bool((moving <= change).all())
    first = "the weights have stopped changing: the readout's change in the last step over that in the first"
    second = "where weights stop changing, error signals vanish (Corollary 4.6; it promises neither that they stop nor"
    second += " a rate): rms chi over its start"
    independent = bool((metrics.diversity(gram[:, 1]).value > feature_floor(gram[:, 1])).all())
    word = settle(stopped and bool((left <= error).all()), False)
    bound = f"<= {error:g} where the weights have stopped"
    if not independent:
        bound += "; features cannot be told from dependent ones: it does not apply"
    runs = len(chi)
    return [
        Verdict(first, None, float(moving.max()), None, runs, f"<= {change:g}", settle(stopped, False)),
        Verdict(second, None, float(left.max()), None, runs, bound, word),
    ]


def _error_signals(task: Task, f: np.ndarray) -> np.ndarray:
    """Return dloss_i/df_i of predictions [2, N, C]."""
    gradient = jax.grad(lambda f: loss_per_sample(task.loss, f, task.y_train).sum())
    return np.asarray(jax.vmap(gradient)(jax.numpy.asarray(f, task.x_train.dtype)), np.float64)


def _smallest(run: Trajectory, name: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, int]:
    """Return the smallest eigenvalue, its standard error and its floor, [S, L] each, and the number of runs."""
    gram = np.asarray(getattr(run, f"{name}_gram"), np.float64)
    smallest = metrics.diversity(gram)
    floor = np.maximum(feature_floor(gram), smallest.resolution)
    if gram.ndim == 4:
        if run.stderr is None:
            return np.asarray(smallest.value), None, floor, 1
        # Gram matrices are means over runs: by Weyl's inequality eigenvalues move by at most the norm of the error.
        error = np.linalg.norm(np.asarray(getattr(run.stderr, f"{name}_gram")), axis=(-2, -1))
        return np.asarray(smallest.value), error, floor, getattr(run.info, "num_runs", 1)
    count, floor = len(gram), floor.max(0)
    if isinstance(run.info, FeatureInfo) and count > 1:
        _, value, error = jackknife(lambda kept: np.asarray(metrics.diversity(gram[kept].mean(0)).value), count)
        return value, error, floor, count
    values = np.asarray(smallest.value)
    return values.mean(0), values.std(0, ddof=1) / count**0.5 if count > 1 else None, floor, count
