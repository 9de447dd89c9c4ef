"""The variables of studies of catapults."""

from __future__ import annotations

from mupjax.results.variables import Variable, along, index

VARIABLES: dict[str, Variable] = {
    **along(
        ("activation", "schedule", "factor", "seed"),
        {
            "train_loss": Variable(("step",), "training loss"),
            "sharpness": Variable(("observe_step",), "largest eigenvalue of the Hessian, with the rates in it"),
            "rate": Variable(("observe_step",), "base learning rate of the update before"),
            "cosine": Variable(("observe_step",), "cosine of the last update with all earlier ones"),
            "sharpness_0": Variable((), "largest eigenvalue of the tangent kernel over P at the start"),
        },
    ),
    **index("activation"),
    **index("schedule"),
    **index("factor", "rate times initial sharpness", "1"),
    **index("seed"),
    **index("step", "step", "updates"),
    **index("observe_step", "step", "updates"),
}
