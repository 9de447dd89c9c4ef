r"""Assumption 4.3 of Chen et al. 2025 (arXiv:2503.09565), GOOD activations, as a search for counterexamples.

An activation phi is GOOD if

1. phi is twice continuously differentiable.
2. phi' and phi'' are bounded.
3. :math:`\sum_i a_i \phi(b_i x + c_i)` is not constant, for b_i != 0, (b_i, c_i) that differ up to sign, and a != 0.
4. :math:`(r_1 + \phi)(r_2 + \phi')` is not constant almost everywhere, for any r_1, r_2.

A search can refute a clause by a counterexample ('witness'); it cannot prove one. The paper proves tanh, sigmoid and
SiLU to be GOOD. Proofs for three more activations of the table follow; clauses 1 and 2 are immediate for all of them.

Gelu, :math:`\phi(x) = x F(x)` with F and f the normal distribution function and density. Clause 3: the second
derivative of a constant sum is :math:`\sum_i a_i b_i^2 (2 - u_i^2) f(u_i) = 0`, u_i = b_i x + c_i. The exponents
-u_i^2/2 are polynomials whose pairs of coefficients of x^2 and x, (-b_i^2/2, -b_i c_i), differ, because (b_i, c_i)
differ up to sign; so as x tends to infinity one of the terms with a_i != 0 exceeds all others, and there is none.
Clause 4: at minus infinity phi and phi' tend to 0, so that the constant is r_1 r_2; at infinity phi tends to infinity
and phi' to 1, hence r_2 = -1, and phi (phi' - 1) tends to 0, so that the constant is 0 and r_1 = 0; but
phi (phi' - 1) is not 0 at 1.

Erf. Clause 3: the derivative of a constant sum is :math:`\sum_i a_i b_i e^{-u_i^2} = 0` up to a factor; as for gelu.
Clause 4: at both ends phi' tends to 0, so that the constant is (r_1 + 1) r_2 = (r_1 - 1) r_2; hence r_2 = 0, the
constant is 0, and (r_1 + phi) phi' = 0 makes phi constant, as phi' > 0.

Softplus, :math:`\log(1 + e^x)`. Clause 3: phi' is the sigmoid, with poles at odd multiples of i pi. Of the terms with
a_i != 0 let i have the largest |b_i|. All are analytic for |Im x| < pi/|b_i|, and at x = (i pi - c_i)/b_i the
derivative of term i has a pole. Another term has one there only for b_j = b_i, c_j = c_i or both negated: |b_j| is no
larger, so that b_j x + c_j must be i pi or -i pi. So no other term balances it. Clause 4: as for gelu, since
phi (phi' - 1) tends to 0 at infinity and is -log(2)/2 at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from mupjax.activations._evaluation import differentiate
from mupjax.activations._identities import ConstantProduct, Dependence, find_constant_product, find_dependence
from mupjax.activations._smoothness import Growth, Kink, WrongDerivative, find_growth, find_kink, find_wrong_derivative
from mupjax.activations.functions import ACTIVATIONS, Activation, get

CLAUSES = {
    1: "twice continuously differentiable",
    2: "phi' and phi'' bounded",
    3: "no constant sum of a_i phi(b_i x + c_i)",
    4: "no constant (r_1 + phi)(r_2 + phi')",
}
_IN_THE_PAPER, _HERE = "shown GOOD in the paper", "argued to be GOOD in mupjax.activations.good"
_WORDS: dict[str, str] = {
    **dict.fromkeys(("tanh", "sigmoid", "silu"), _IN_THE_PAPER),
    **dict.fromkeys(("gelu", "erf", "softplus"), _HERE),
}


class GoodCheck(NamedTuple):
    """Result of `check_good`.

    Attributes:
      name: name of the activation.
      witnesses: counterexamples, at most one per clause, each with its `clause`: a Kink or WrongDerivative, a Growth, a
        Dependence, a ConstantProduct.
      trials: number of parameter sets tested for clause 3.
      eps: machine epsilon of phi's precision. If phi casts to float32, jumps below about 4e-3 go unnoticed and terms
        count as dependent to 1e-4.
      word: reference for a proof that the activation is GOOD, or None.
    """

    name: str
    witnesses: tuple[Kink | WrongDerivative | Growth | Dependence | ConstantProduct, ...]
    trials: int
    eps: float
    word: str | None

    @property
    def refuted(self) -> tuple[int, ...]:
        """The refuted clauses, of 1 to 4. An empty tuple is not a proof."""
        return tuple(witness.clause for witness in self.witnesses)

    def __str__(self) -> str:
        if not self.witnesses:
            known = f"; {self.word}" if self.word else ""
            coarse = f", in phi's own precision of {self.eps:.0e}" if self.eps > 1e-10 else ""
            return (
                f"{self.name}: no counterexample to GOOD (Chen et al. 2025, Assumption 4.3) found in "
                f"{self.trials} trials{coarse}{known}."
            )
        lines = [f"  ({witness.clause}) {CLAUSES[witness.clause]}: {witness}." for witness in self.witnesses]
        return "\n".join([f"{self.name} is not GOOD (Chen et al. 2025, Assumption 4.3). Refuted:", *lines])


def check_good(
    activation: str | Activation | Callable[[jax.Array], jax.Array], *, trials: int = 600, key: int = 0
) -> GoodCheck:
    r"""Search for counterexamples to GOOD, Assumption 4.3 of Chen et al. 2025 (arXiv:2503.09565).

    phi and its JAX derivatives are evaluated in float64: kinks for |x| up to 100, growth up to 10^6, identities fitted
    on [-10, 10] and verified up to 400. The search takes some tenths of a second. It does not see beyond these ranges:
    tanh(10^-6 x) looks linear.

    Args:
      activation: a name, an Activation, or an elementwise function.
      trials: number of sets of 2 to 4 parameters (b_i, c_i) for clause 3, at least 1; a_i and r_1, r_2 are solved for.
      key: seed of the random points and parameters.

    Returns:
      A GoodCheck with a counterexample for each refuted clause. None found is not a proof.

    Raises:
      ValueError: if `trials` is below 1 or the activation's name is unknown.

    Example:
      >>> check_good("relu").refuted
      (1, 3, 4)
      >>> check_good("tanh").word
      'shown GOOD in the paper'
    """
    if trials < 1:
        raise ValueError(f"Expected `trials` to be a positive int, got trials={trials}.")
    activation = get(activation)
    rng = np.random.default_rng(key)
    phi = differentiate(activation.phi, rng)
    wrong = find_wrong_derivative(phi, rng)
    searches = (
        wrong or find_kink(phi, rng),
        None if wrong else find_growth(phi, rng),
        find_dependence(phi, trials, rng),
        None if wrong else find_constant_product(phi, rng),
    )
    built_in = ACTIVATIONS.get(activation.name) is activation
    return GoodCheck(
        name=activation.name,
        witnesses=tuple(witness for witness in searches if witness is not None),
        trials=trials,
        eps=phi.eps,
        word=_WORDS.get(activation.name) if built_in else None,
    )
