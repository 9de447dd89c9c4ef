"""The experiment of Chen et al. 2025 (arXiv:2503.09565) with its full settings, judged: `make study-rich`.

CIFAR-10 is taken from MUPJAX_DATA where it is there, digits otherwise. Resumable: every part is kept in
results/study-rich, and verdicts are computed from these Datasets alone.
"""

from __future__ import annotations

import os
from typing import Any

import jax


def main() -> None:
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    import judged

    from mupjax.reproduce import rich_features
    from mupjax.reproduce.parts import MAIN, WIDE, papers_or_digits
    from mupjax.reproduce.reading import across_widths
    from mupjax.reproduce.rich_features import tables

    data_dir = os.environ.get("MUPJAX_DATA")
    dataset, _ = papers_or_digits(("cifar10",), data_dir)
    common = {"data_dir": data_dir, "out": judged.folder("rich"), "memory_gb": 20.0, "progress": True}
    found, verdicts = rich_features.reproduce(dataset, **common)
    side_by_side, test_errors = (
        (one.columns, one.rows) for one in (tables.side_by_side(found), tables.test_errors(found))
    )
    for columns, rows in (side_by_side, test_errors):
        print(*("  ".join(row) for row in [columns, *rows]), sep="\n")
    _picture(across_widths(found[MAIN], found[WIDE]))
    more = {"side_by_side": side_by_side, "test_errors": test_errors}
    judged.record("rich", dataset, found, verdicts, rich_features.parts(), **more)


def _picture(data: Any) -> None:
    """The README's: three metrics of the last layer at widths 64 to 2^20 and at infinite width."""
    import judged

    from mupjax import plots
    from mupjax.plots.style import new_figure

    figure = new_figure(14, 4.2)
    axes = figure.subplots(1, 3)
    for ax, metric in zip(axes, ("feature_change", "diversity", "space_time"), strict=True):
        plots.against_width(data, metric, ax=ax, legend=False)
    labels = {}
    for handle, label in zip(*axes[0].get_legend_handles_labels(), strict=True):
        labels[label.split("\n")[0]] = handle
    figure.legend(labels.values(), labels.keys(), loc="outside right upper", handlelength=3)
    figure.savefig(judged.HERE / "rich_features.png", dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main()
