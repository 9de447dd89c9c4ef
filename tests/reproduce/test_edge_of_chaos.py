"""The study of the edge of chaos: settings, verdicts that can flip, figures and the table."""

import jax
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from mupjax import MLP, mup, plots, report
from mupjax.activations import gain
from mupjax.cli import app
from mupjax.dynamics import dense
from mupjax.dynamics.runs import run_key
from mupjax.observers.curvature import ntk_change
from mupjax.reproduce import edge_of_chaos
from mupjax.reproduce.edge_of_chaos.claims import judge
from mupjax.reproduce.edge_of_chaos.reading import by_depth, by_width
from mupjax.reproduce.parts import MAIN, run_part, task_of
from mupjax.theorems.depth import small_step


def catapults(edge=1.0, growth=5.0):
    """A study whose runs in the window grow, and end where they are told to; rates that follow let losses rise on."""
    factors, steps = np.array(edge_of_chaos.FACTORS), np.arange(17)
    shape = (2, 2, len(factors), 10)  # runs: of fewer no share decides
    loss = np.ones((*shape, 17)) * 0.5**steps
    inside = (factors > 2) & (factors < 4)
    loss[:, :, inside, :, 3] = growth
    loss[:, 1, :, :, 10::2] *= 5
    sharpness = np.full((*shape, 3), edge)
    sharpness[:, 1] = 3.0
    cosines = np.zeros_like(sharpness) + np.array([0.5, -0.5])[:, None, None, None]
    dims = ("activation", "schedule", "factor", "seed")
    values = {
        "train_loss": ((*dims, "step"), loss),
        "sharpness": ((*dims, "observe_step"), sharpness),
        "rate": ((*dims, "observe_step"), np.ones_like(sharpness)),
        "cosine": ((*dims, "observe_step"), cosines),
    }
    coords = {"activation": ["linear", "tanh"], "schedule": ["constant", "following"], "factor": factors}
    return xr.Dataset(values, coords | {"seed": range(10), "step": steps, "observe_step": [0, 8, 16]})


def study(names, change, width=(16.0,), loss=0.1):
    """A training study of these parametrizations; change [parametrization, width, layer], the same at every step."""
    rng, change = np.random.default_rng(0), np.asarray(change, float)
    whole = change[:, :, None, None] * rng.uniform(0.995, 1.005, (*change.shape[:2], 4, 2, change.shape[-1]))
    runs = ("parametrization", "width", "seed")
    values = {
        "preactivation_change": ((*runs, "step", "layer"), whole),
        "train_loss": (runs, np.full(whole.shape[:3], loss)),
        "test_error": (runs, np.full(whole.shape[:3], 0.1)),
        "batch_loss": ((*runs, "step"), np.ones(whole.shape[:4])),
    }
    coords = {"parametrization": names, "width": list(width), "step": [0, 1], "layer": range(1, change.shape[-1] + 1)}
    return xr.Dataset(values, coords, {"num_classes": 10})


def depths(flat, grown, loss=0.1, width_power=0.0):
    """Parts over depths whose last layer moves by so much, and by this power of the width at depth 6."""
    found = {}
    for rank, depth in enumerate((3, 6, 12)):
        for kind, names, of in (
            ("equal", ["mup", "nup_q0"], [1.0, flat[rank]]),
            ("growing", ["nup_q2"], [grown[rank]]),
        ):
            widths = np.array([16.0, 32.0, 64.0] if depth == 6 else [16.0])
            change = np.array(of)[:, None] * (widths / 16) ** width_power
            whole = np.repeat(change[:, :, None], depth, axis=2)
            found[f"step-{kind}-{depth}"] = study(names, whole, widths)
            found[f"train-{kind}-{depth}"] = study(names, whole[:, :1], loss=loss)
    return found


def sharpening(late=2.0, swing=0.0):
    """Runs whose rate times sharpness starts at 0.5 and ends where it is told to, and how steadily."""
    edge = late + swing * np.resize([1.0, -1.0], 9) * np.ones((1, 1, 2, 3, 1))
    edge[..., 0] = 0.5
    dims = ("activation", "schedule", "factor", "seed", "observe_step")
    loss = np.broadcast_to(np.geomspace(1, 0.01, 9), edge.shape)
    values = {"sharpness": (dims, edge), "rate": (dims, np.ones_like(edge)), "train_loss": ((*dims[:-1], "step"), loss)}
    return xr.Dataset(values)


def kernels(ntp=-1.0, mup=0.0):
    widths, noise = np.array([64.0, 256.0, 1024.0]), np.random.default_rng(0).uniform(0.98, 1.02, (2, 3, 4, 2))
    change = np.stack([widths**ntp, widths**mup])[:, :, None, None] * noise
    coords = {"parametrization": ["ntp", "mup"], "width": widths}
    return xr.Dataset({"ntk_change": (("parametrization", "width", "seed", "step"), change)}, coords)


def deep(changes):
    """Small steps without matrices, the infinite row beside them."""
    found = {}
    for depth, change in zip((6, 12, 24, 48), changes, strict=True):
        noise = np.random.default_rng(depth).uniform(0.98, 1.02, (1, 2, 8, 2, depth))
        values = change * noise * np.array([1.0, np.nan])[:, None, None, None]
        dims = ("parametrization", "width", "seed", "gram_step", "layer")
        found[f"deep-{depth}"] = xr.Dataset({"feature_change_h": (dims, values)}, {"width": [16.0, np.inf]})
    return found


def words(found):
    return [verdict.verdict for verdict in judge(found)]


def test_verdicts_are_read_from_the_datasets_and_flip():
    assert words({MAIN: catapults()}) == ["reproduced"] * 9
    beyond = words({MAIN: catapults(edge=2.5)})  # ends beyond the edge
    assert beyond[:4] == ["contradicted"] * 4
    assert words({MAIN: catapults(growth=0.5)})[:2] == ["contradicted", "reproduced"]
    for broken in (np.nan, 50.0):  # below the window runs diverge, or their loss grows
        data = catapults()
        data["train_loss"][:, 0, :2, :, 5:] = broken
        assert words({MAIN: data})[1] == words({MAIN: data})[3] == "contradicted"
    data = catapults()
    data["train_loss"][:, 0, 3, :, 5:] = np.nan
    assert words({MAIN: data})[5] == "contradicted"  # a constant rate that diverges does not rise
    data = catapults()
    data["train_loss"][:, ::-1] = data["train_loss"].values
    assert words({MAIN: data})[4:6] == ["contradicted"] * 2
    data = catapults()
    data["cosine"] *= -1
    assert words({MAIN: data})[7:] == ["contradicted"] * 2
    assert words({"sharpening": sharpening()}) == ["reproduced"]
    assert words({"sharpening": sharpening(1.5)}) == words({"sharpening": sharpening(np.nan)}) == ["contradicted"]
    assert words({"sharpening": sharpening(2.0, swing=0.8)}) == ["contradicted"]
    assert words({"kernels": kernels()}) == ["reproduced"] * 2
    assert words({"kernels": kernels(-0.2, -0.5)}) == ["contradicted"] * 2
    assert words({"kernels": kernels(-0.5)})[0] == "contradicted"  # half a power off is not 'about 1/n'
    rate = edge_of_chaos.settings.SMALL * edge_of_chaos.RATES["nup"]

    def law(q, depths):
        return [rate * small_step(depth, q=q)[-1] for depth in depths]

    deeper = (6, 12, 24, 48)
    assert words(deep(law(2.0, deeper))) == ["reproduced"] * 2
    assert words(deep([2 * change for change in law(2.0, deeper)])) == ["contradicted", "reproduced"]  # its size
    assert words(deep([law(2.0, [48])[0] * depth / 48 for depth in deeper])) == ["reproduced", "contradicted"]  # a line
    logs = np.log(deeper) / np.log(48) * law(2.0, [48])[0]
    assert words(deep(logs)) == ["reproduced", "contradicted"]
    flat, grown = law(0.0, (3, 6, 12)), law(2.0, (3, 6, 12))
    assert words(depths(flat, grown)) == ["reproduced"] * 8
    assert set(words(depths(grown, flat, loss=2.3, width_power=0.5))) == {"contradicted"}
    assert words(depths(flat, grown, loss=np.nan))[-1] == "contradicted"  # diverged
    assert words({name: data for name, data in depths(flat, grown).items() if name == "train-equal-3"}) == []
    everything = judge({MAIN: catapults(), "kernels": kernels()} | depths(flat, grown))
    assert all("a reconstruction" in v.claim for v in everything if "nup" in v.claim or "follow" in v.claim)


def test_settings_are_the_reconstructions():
    parts = edge_of_chaos.parts()
    names = [part.name for part in parts]
    assert names[:3] == [MAIN, "sharpening", "kernels"]
    for what in ("step-equal", "step-growing", "train-equal", "train-growing"):
        assert {f"{what}-{depth}" for depth in (4, 8, 16)} <= set(names)
    assert names[-5:] == ["narrow-24", "deep-6", "deep-12", "deep-24", "deep-48"]
    quick = edge_of_chaos.parts(quick=True)
    for of in (parts, quick):  # at least three depths, and one of several widths
        assert len([part for part in of if part.name.startswith("step-growing")]) == 3
        assert len([part for part in of if len(part.settings.get("widths", ())) > 1 and "step" in part.name]) == 2
    standard, _, branches, flat = edge_of_chaos.presets(8, growing=False)
    assert standard.scales("hidden", 64, 64, layer=2).sgd_lr_mult == pytest.approx(edge_of_chaos.RATES["sp"] / 8)
    assert (branches.residual, flat.width_profile) == (0.5, 0.0)
    grown = edge_of_chaos.presets(8, growing=True)[1]
    step = grown.scales("hidden", 64, 144, layer=3).sgd_lr_mult
    assert step == pytest.approx(edge_of_chaos.RATES["nup"] * gain(0.5, 0.5) / 2)  # eta sigma (k-1)^-1
    assert grown.layer_widths(16, 3) == (16, 64, 144)


def small(parts, name, **settings):
    part = next(part for part in parts if part.name == name)
    return part._replace(settings=part.settings | settings)


def test_parts_run_and_are_drawn(tmp_path):
    parts = edge_of_chaos.parts(quick=True)
    few = {"activations": ("tanh",), "width": 32, "factors": (1.0, 3.0), "seeds": 2, "steps": 12}
    data = run_part(small(parts, MAIN, **few), "digits", out=tmp_path)
    pictures = plots.save_all(data, tmp_path)
    assert [path.name for path in pictures] == ["catapults_constant.png", "catapults_following.png"]
    columns, rows = report.format_catapults(data)
    assert len(rows) == 4
    assert all(len(row) == len(columns) for row in rows)
    few = {"parametrizations": edge_of_chaos.presets(2, growing=True)[1:], "widths": (8, 16), "seeds": 1}
    step = small(parts, "step-growing-2", **few)
    found = {step.name: run_part(step, "digits", out=tmp_path)}
    change = found[step.name].preactivation_change
    assert change.dims == ("parametrization", "width", "seed", "step", "layer")
    assert (change.sel(step=0) == 0).all()
    assert (change.sel(step=1) > 0).all()
    found["train-growing-2"] = found[step.name].assign(test_error=found[step.name].train_loss)
    rows = by_depth(found, "step"), by_depth(found, "train"), by_width(found)
    assert list(rows[2]["nup_q2"]) == [8, 16]
    paper = edge_of_chaos.PAPER
    paths = plots.save(paper.figures({MAIN: data, **found})[MAIN], tmp_path)
    assert [path.name for path in paths] == ["depths.png", "evolution.png"]
    page = report.write(data, tmp_path, [*pictures, *paths], captions=paper.captions).read_text()
    assert "What a step moves, layer by layer" in page
    assert "Catapults and the edge of stability" in page
    assert "Lewkowycz" in page


def test_tangent_kernels_are_dense_trainings(tmp_path):
    one = {"parametrizations": ("mup",), "widths": (16,), "seeds": 1, "steps": 4, "record_every": 4}
    part = small(edge_of_chaos.parts(quick=True), "kernels", **one, observe_inputs=16)
    data, task = run_part(part, "digits"), task_of(part, "digits")
    seen = {"ntk": ntk_change(MLP(16, 2, 1, mup(), "tanh"), task.x_train)}
    settings = {"width": 16, "depth": 2, "learning_rate": 1.0, "steps": 4, "observers": seen}
    run = dense.train(task, mup(), key=run_key(jax.random.key(0), 0, 16), **settings)
    np.testing.assert_allclose(data.ntk_change.values.ravel(), run.observed["ntk"][::4], rtol=1e-4)
    assert data.ntk_change[..., 1] > 0.01
    assert "kernels.png" in [path.name for path in plots.save_all(data, tmp_path)]


def test_command_says_what_it_does():
    found = CliRunner().invoke(app, ["reproduce", "edge-of-chaos", "--help"])
    assert found.exit_code == 0
    assert "reconstructed" in found.output
