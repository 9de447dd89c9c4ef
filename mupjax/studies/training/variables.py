"""The variables of training studies."""

from __future__ import annotations

from mupjax.results.variables import Variable, along, index

VARIABLES: dict[str, Variable] = {
    **along(
        ("parametrization", "width", "seed"),
        {
            "batch_loss": Variable(("step",), "loss of a step's batch before its update"),
            "initial_rate": Variable(("kernel",), "base learning rate of the first step"),
            "clipped": Variable(("kernel",), "whether the calibrated rate reached its cap"),
            "train_loss": Variable((), "loss of the training set after the last step"),
            "test_error": Variable((), "test error: share of inputs in a wrong class"),
            "rank_h": Variable(("step", "layer"), "numerical rank of the preactivations"),
            "rank_x": Variable(("step", "layer"), "numerical rank of the activations"),
            "contribution": Variable(
                ("part", "step", "kernel"),
                "mean |contribution| to preactivations (kernel L + 1: to the outputs)",
            ),
            "preactivation_change": Variable(
                ("step", "layer"), "relative change of the preactivations in the step before"
            ),
            "ntk_change": Variable(("step",), "relative change of the tangent kernel since the start"),
            "predictions": Variable(("time", "test_index", "output"), "outputs of the test inputs"),
        },
    ),
    "train_input": Variable(("train_index", "input_dim"), "training inputs"),
    "test_input": Variable(("test_index", "input_dim"), "test inputs"),
    "train_target": Variable(("train_index", "output"), "training targets"),
    "test_target": Variable(("test_index", "output"), "test targets"),
    "class_share": Variable(("output",), "share of the test inputs in each class"),
    **index("parametrization"),
    **index("width", "width", "hidden units"),
    **index("step", "step", "updates"),
    **index("kernel"),
    **index("layer"),
    **index("part"),
    **index("time"),
}
