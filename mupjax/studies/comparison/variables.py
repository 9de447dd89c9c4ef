"""The variables of comparisons."""

from __future__ import annotations

from mupjax.results.variables import TRAJECTORY, WIDTH, Variable, along, index

_STDERRS = {
    f"{name}_stderr": variable._replace(
        dims=("parametrization", *variable.dims),
        long_name=f"{variable.long_name} at infinite width: standard error",
    )
    for name, variable in TRAJECTORY.items()
    if not name.endswith(("_resolution", "_gram"))
}
VARIABLES: dict[str, Variable] = {
    **along(("parametrization", "width", "seed"), TRAJECTORY),
    **_STDERRS,
    "targets": Variable(("train_input", "output"), "targets of the training inputs"),
    "test_error": Variable(("parametrization", "width", "seed"), "test error: share of inputs in a wrong class"),
    "limit_num_runs": Variable(("parametrization",), "independent runs of the feature-learning limit"),
    "limit_directions": Variable(
        ("parametrization",), "largest number of directions kept of a hidden matrix of the limit"
    ),
    **index("parametrization"),
    **{name: Variable(("parametrization",), units="") for name in ("learning_rate", "classification", "limit")},
    **WIDTH,
    **{name: Variable(("width",)) for name in ("diversity_sampling_factor", "space_time_sampling_factor")},
    "dynamics": Variable(("width",), units=""),
    **index("seed"),
    **index("step", units="steps"),
    **index("gram_step", units="steps"),
    **index("layer"),
}
