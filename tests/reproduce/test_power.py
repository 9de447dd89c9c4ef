"""Programs broken on purpose are contradicted by the claims that ought to see them, right ones by none."""

import importlib.util
from functools import cache
from pathlib import Path

import pytest

import mupjax
from mupjax.reproduce import rich_features
from mupjax.statistics import CONTRADICTED, REPRODUCED
from studies import broken

ROOT = Path(__file__).parents[2]
SMALL = {"widths": (64, 512), "steps": 2, "seeds": 8}
pytestmark = pytest.mark.xdist_group("power")


@cache
def judged(name):
    """The verdicts on every layer's own updates, of a broken program or of the right one."""
    preset = broken.BROKEN[name](mupjax.mup()) if name else mupjax.mup()
    return rich_features.judge({"updates": broken.updates(preset, 0, **SMALL)})


def test_a_right_program_is_not_accused():
    assert {verdict.verdict for verdict in judged("")} <= {REPRODUCED, "undecided"}


@pytest.mark.parametrize("name", ["hidden rate x n^-1/2", "hidden layers frozen", "readout rate 0"])
def test_a_broken_program_is_caught_by_its_layers_own_updates(name):
    assert CONTRADICTED in {verdict.verdict for verdict in judged(name)}


@pytest.mark.parametrize("folder", ["studies", "benchmarks"])
def test_no_script_hides_a_package(folder):
    """A script's own folder comes first on the path: a file called rich.py would be taken for the package."""
    names = [path.stem for path in (ROOT / folder).glob("*.py")]
    assert not [name for name in names if (spec := importlib.util.find_spec(name)) and folder not in str(spec.origin)]
