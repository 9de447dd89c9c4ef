"""What a study leaves in `out` is what the same call returns without it: numbers, dtypes, coordinates."""

import numpy as np
import pytest

import mupjax
from mupjax.observers import ranks
from mupjax.results import store
from mupjax.studies.training import training_study

LABELS = np.arange(4) % 2
TASK = mupjax.Task(np.eye(4), LABELS, np.eye(4)[:2], LABELS[:2], loss="cross_entropy", num_classes=2)
NETWORK = {"depth": 1, "steps": 2}
OBSERVE = ("ranks", "contributions", "cosines")


def limit(**options):
    """Its points read the limit's cell; powers of the width follow from all of them."""
    task = mupjax.Task(np.eye(4), np.ones((4, 1)))
    return mupjax.limit(task, particles=64, widths=(8, 16), seeds=16, **NETWORK, **options)


def training(**options):
    """Of whole numbers, truth values, and observers of both kinds."""
    settings = {"widths": (8,), "learning_rate": 0.1, "batch_size": 2, "observe_inputs": 4, "keep_predictions": True}
    return training_study(TASK, parametrizations=("mup",), observe=OBSERVE, **settings, **NETWORK, **options)


@pytest.mark.parametrize("study", [limit, training])
def test_what_is_stored_is_what_is_returned(study, tmp_path):
    alone, kept = study(), study(out=tmp_path)
    assert kept.equals(alone)
    assert set(kept.coords) == set(alone.coords)
    assert {name: array.dtype for name, array in kept.items()} == {name: array.dtype for name, array in alone.items()}
    assert {name: array.attrs for name, array in kept.items()} == {name: array.attrs for name, array in alone.items()}
    assert store.attributes(tmp_path / store.STORE)["complete"] == 1


def test_a_training_study_observes_what_a_sweep_does():
    data = training()
    assert data.cosine.dims == ("parametrization", "width", "seed", "step")
    assert tuple(data.part.values) == ranks.Contributions._fields
    assert data.rank_h.dtype.kind == "i"
    assert np.all(np.abs(data.cosine.values[..., 2:]) <= 1 + 1e-6)
