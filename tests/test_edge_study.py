"""The study of the edge of chaos: settings, verdicts that can flip, figures and the table."""

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from mupjax import plots, report
from mupjax.activations import gain
from mupjax.cli import app
from mupjax.reproduce import edge_of_chaos
from mupjax.reproduce.edge_claims import by_depth, judge
from mupjax.reproduce.parts import MAIN, run_part


def catapults(edge=1.0, growth=5.0):
    """A study whose runs in the window grow, and end where they are told to."""
    factors, steps = np.array(edge_of_chaos.FACTORS), np.arange(9)
    shape = (2, 2, len(factors), 3)
    loss = np.ones((*shape, 9)) * 0.5**steps
    inside = (factors > 2) & (factors < 4)
    loss[:, :, inside, :, 3] = growth
    sharpness = np.full((*shape, 3), edge)
    sharpness[:, 1] = 3.0
    dims = ("activation", "schedule", "factor", "seed")
    values = {
        "train_loss": ((*dims, "step"), loss),
        "sharpness": ((*dims, "observe_step"), sharpness),
        "rate": ((*dims, "observe_step"), np.ones_like(sharpness)),
        "cosine": ((*dims, "observe_step"), np.zeros_like(sharpness)),
    }
    coords = {"activation": ["linear", "tanh"], "schedule": ["constant", "following"], "factor": factors}
    return xr.Dataset(values, coords | {"seed": range(3), "step": steps, "observe_step": [0, 4, 8]})


def depths(power_0, power_2, loss=0.1):
    """Parts over depths whose last layer moves with these powers of the depth."""
    found, rng = {}, np.random.default_rng(0)
    for depth in (3, 6, 12):
        for kind, names, powers in (("equal", ["sp", "nup_q0"], [0, power_0]), ("growing", ["nup_q2"], [power_2])):
            change = (
                np.ones((len(names), 1, 4, 2, depth))
                * np.array([depth**power for power in powers])[:, None, None, None, None]
            )
            values = {
                "preactivation_change": (
                    ("parametrization", "width", "seed", "step", "layer"),
                    change * rng.uniform(0.98, 1.02, change.shape),
                ),
                "train_loss": (("parametrization", "width", "seed"), np.full((len(names), 1, 4), loss)),
                "test_error": (("parametrization", "width", "seed"), np.full((len(names), 1, 4), 0.1)),
                "batch_loss": (("parametrization", "width", "seed", "step"), np.ones((len(names), 1, 4, 2))),
            }
            coords = {"parametrization": names, "width": [16.0], "step": [0, 1]}
            found[f"{kind}-{depth}"] = xr.Dataset(values, coords, {"num_classes": 10})
    return found


def test_verdicts_are_read_from_the_datasets_and_flip():
    assert [v.verdict for v in judge({MAIN: catapults()})] == ["reproduced"] * 6
    words = [v.verdict for v in judge({MAIN: catapults(edge=2.5)})]  # ends beyond the edge
    assert words == ["contradicted", "reproduced", "contradicted", "reproduced", "reproduced", "contradicted"]
    calm = judge({MAIN: catapults(growth=0.5)})
    assert [v.verdict for v in calm][:2] == ["contradicted", "reproduced"]
    assert [v.verdict for v in judge(depths(1.0, 0.3))] == ["reproduced"] * 3
    assert [v.verdict for v in judge(depths(0.2, 1.2, loss=2.3))] == ["contradicted"] * 3
    assert judge({name: data for name, data in depths(1.0, 0.3).items() if name == "equal-3"}) == []
    assert all(v.paper is None for v in judge({MAIN: catapults()} | depths(1.0, 0.3)))  # nothing published was at hand


def test_settings_are_the_reconstructions():
    names = [part.name for part in edge_of_chaos.parts()]
    assert names == [MAIN, "equal-4", "growing-4", "equal-8", "growing-8", "equal-16", "growing-16"]
    for part in edge_of_chaos.parts()[1:]:  # the claims read the first step
        assert part.settings.get("record_every", 1) == 1
    standard, _, branches, flat = edge_of_chaos.presets(8, growing=False)
    assert standard.scales("hidden", 64, 64, layer=2).sgd_lr_mult == pytest.approx(edge_of_chaos.RATES["sp"] / 8)
    assert (branches.residual, flat.width_profile) == (0.5, 0.0)
    grown = edge_of_chaos.presets(8, growing=True)[1]
    step = grown.scales("hidden", 64, 144, layer=3).sgd_lr_mult
    assert step == pytest.approx(edge_of_chaos.RATES["nup"] * gain(0.5, 0.5) / 2)  # eta sigma (k-1)^-1
    assert grown.layer_widths(16, 3) == (16, 64, 144)


def test_parts_run_and_are_drawn(tmp_path):
    catapult, *rest = edge_of_chaos.parts(quick=True)
    small = {"activations": ("tanh",), "width": 32, "factors": (1.0, 3.0), "seeds": 2, "steps": 12}
    data = run_part(catapult._replace(settings=catapult.settings | small), "digits", out=tmp_path)
    pictures = plots.save_all(data, tmp_path)
    assert [path.name for path in pictures] == ["catapults_constant.png", "catapults_following.png"]
    columns, rows = report.contents.format_catapults(data)
    assert len(rows) == 4
    assert all(len(row) == len(columns) for row in rows)
    part = rest[1]
    small = {"widths": (8,), "steps": 2, "seeds": 1}
    study = run_part(part._replace(settings=part.settings | small), "digits", out=tmp_path)
    assert study.preactivation_change.dims == ("parametrization", "width", "seed", "step", "layer")
    assert (study.preactivation_change.sel(step=0) == 0).all()
    assert (study.preactivation_change.sel(step=1) > 0).all()
    paths = plots.save_depths(by_depth({part.name: study}), tmp_path)
    assert [path.name for path in paths] == ["depths.png"]
    page = report.write(data, tmp_path, [*pictures, *paths]).read_text()
    assert "Catapults and the edge of stability" in page
    assert "Lewkowycz" in page


def test_command_says_what_it_does():
    found = CliRunner().invoke(app, ["reproduce", "edge-of-chaos", "--help"])
    assert found.exit_code == 0
    assert "reconstructed" in found.output
