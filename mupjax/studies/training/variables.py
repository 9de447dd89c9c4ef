"""The variables of training studies."""

from __future__ import annotations

from mupjax.observers import named
from mupjax.results.variables import Variable, along, index

_OBSERVED = {
    name: Variable(tuple("step" if dim == "observe_step" else dim for dim in dims), long_name)
    for name, (dims, long_name) in named.variables(named.NAMES).items()
}
VARIABLES: dict[str, Variable] = {
    **along(("parametrization", "width", "seed"), _OBSERVED),
    **along(
        ("parametrization", "width", "seed"),
        {
            "batch_loss": Variable(("step",), "loss of a step's batch before its update"),
            "initial_rate": Variable(("kernel",), "base learning rate of the first step"),
            "clipped": Variable(("kernel",), "whether the calibrated rate reached its cap"),
            "train_loss": Variable((), "loss of the training set after the last step"),
            "test_error": Variable((), "test error: share of inputs in a wrong class"),
            "predictions": Variable(("time", "test_index", "output"), "outputs of the test inputs"),
        },
    ),
    "train_input": Variable(("train_index", "input_dim"), "training inputs"),
    "test_input": Variable(("test_index", "input_dim"), "test inputs"),
    "class_share": Variable(("output",), "share of the test inputs in each class"),
    **index("parametrization"),
    **index("width", "width", "hidden units"),
    **index("step", "step", "updates"),
    **index("kernel"),
    **index("layer"),
    **index("part"),
    **index("time"),
}
TARGETS: dict[str, Variable] = {  # not of the Kind: labels have no dim of outputs
    "train_target": Variable(("train_index", "output"), "training targets"),
    "test_target": Variable(("test_index", "output"), "test targets"),
}
