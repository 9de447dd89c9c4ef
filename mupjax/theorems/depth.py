r"""How far one small normalized step moves every layer of a deep ReLU-like network.

With one input, let the step of layer k alone move :math:`h_k` by :math:`o_k \eta \sqrt m` along its normalized backward
vector (:math:`o_k = 1` in `nup`). Backward sizes are kept on the way, so the coherent parts add up to
:math:`A_k = \sum_{i \le k} o_i`, and every layer turns a share of what it receives into fresh orthogonal noise, which
is carried on. With widths :math:`m_k = k^q m` and :math:`c = E\phi'^4 / (E\phi'^2)^2 = 1 + 4 \Delta (1 - \Delta)`,

.. math:: \|\delta h_k\|^2 / \|h_k\|^2 = \eta^2 \Bigl[ A_k^2 k^{-q} + c \sum_{j<k} A_j^2 j^{-q} \Bigr]

to first order in :math:`\eta`, at large width. Derived here, for phi(s) = a s + b|s|.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def small_step(depth: int, *, q: float = 0.0, slope: float = 0.5, own: npt.ArrayLike = 1.0) -> np.ndarray:
    r"""Return the root mean square over initialisations of :math:`\|\delta h_k\| / (\eta \|h_k\|)` for layers 1..depth.

    Args:
      depth: number of hidden layers L.
      q: exponent of the widths' growth with depth.
      slope: :math:`\Delta = b^2 / (a^2 + b^2)`: 1/2 for ReLU, 0 for linear, 1 for the absolute value.
      own: :math:`o_k`, one number or L of them.

    Returns:
      [depth].

    Example:
      >>> round(float(small_step(8, q=1.0)[-1]), 12), round(float(small_step(8, q=2.0)[-1] ** 2), 12)  # L; 2 L - 1
      (8.0, 15.0)
    """
    layers = np.arange(1.0, depth + 1)
    coherent = np.cumsum(np.broadcast_to(np.asarray(own, np.float64), depth)) ** 2 * layers**-q
    noise = (1 + 4 * slope * (1 - slope)) * (np.cumsum(coherent) - coherent)
    return np.sqrt(coherent + noise)
