"""The command line as a user meets it; in a process of its own where that is what is tested, else by `main()`."""

import json
import signal
import subprocess
import sys

import pytest

import mupjax
from mupjax.results import store

pytestmark = pytest.mark.xdist_group("command line")  # one process: its runs are shared by the tests
SMALL = "compare --widths 8,16 --depth 2 --seeds 2 --steps 5 --train-size 8 --test-size 4"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run in a process of its own."""
    out = tmp_path_factory.mktemp("cli") / "results"
    words = [sys.executable, "-m", "mupjax.cli", *SMALL.split(), "--out", str(out)]
    return out, subprocess.run(words, capture_output=True, text=True, timeout=300)


def test_compare_leaves_table_store_report_and_figures(finished):
    out, done = finished
    assert done.returncode == 0, done.stderr
    for word in ("ntp", "mup", "infinite", "feature-learning limit"):
        assert word in done.stdout
    assert "width 16" in done.stderr  # the progress bar names the cell
    left = {path.name for path in out.iterdir()}
    assert {"results.zarr", "report.html"} <= left
    assert any(name.endswith(".png") for name in left)
    assert not any(name.startswith(".") for name in left)
    data = store.read(out / "results.zarr")
    assert json.loads(data.attrs["arguments"])["widths"] == [8, 16]


def test_the_same_command_resumes_and_another_is_refused(finished, command):
    out, done = finished
    before = (out / "results.zarr" / "zarr.json").stat().st_mtime_ns
    again = command(*SMALL.split(), "--out", str(out))
    assert again.returncode == 0
    assert "already" in again.stdout
    assert again.stdout.split("\n", 1)[1].strip() == done.stdout.strip()
    other = command(*SMALL.replace("--steps 5", "--steps 6").split(), "--out", str(out))
    assert other.returncode == 2
    assert "steps=5, not 6" in other.stderr
    assert (out / "results.zarr" / "zarr.json").stat().st_mtime_ns == before


def test_a_killed_run_leaves_nothing_that_reads_as_complete(tmp_path):
    command = [sys.executable, "-m", "mupjax.cli", *SMALL.replace("--steps 5", "--steps 200000").split()]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True)
    shown = ""
    while "width 8" not in shown:  # until the first cell is under way
        assert process.poll() is None, shown
        shown += process.stderr.read(1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out" / "results.zarr").exists()


BAD = {
    "compare --widths 0": "`width` to be a positive int, got width=0",
    "compare --widths 8,a": "`widths` to hold whole numbers, got 'a'",
    "compare --parametrizations mupp": "`parametrization` to be one of",
    "compare --activation tan": "`activation` to be one of",
    "compare --dataset imagenet": "`name` to be one of digits",
    "compare --classes 1": "`classes`",
    "compare --classes 0,11": "`classes`",
    "compare --train-size -3": "`train_size`",
    "compare --seeds 0": "`seeds` to be a positive int",
    "compare --learning-rate fast": "`learning_rate` to be a number",
    "compare --learning-rate nup=1": "`learning_rate` to name parametrizations",
    "compare --loss hinge": "`loss`",
    "compare --memory-gb 0.001": "memory_gb=0.001",
    "compare --dataset cifar10 --data-dir absent": "data_batch_1.bin",
    "compare --out pyproject.toml": "`out` to be a directory",
    "compare --standardize 1": "`standardize`",
    "compare --steps many": "Invalid value",
    "compare --wide 3": "No such option",
    "sweep --widths 8,8": "`widths` to be distinct",
    "sweep --learning-rates 1:2": "`learning_rates` as LOW:HIGH:COUNT",
    "sweep --learning-rates 2:1:3": "0 < LOW < HIGH",
    "sweep --learning-rates 0": "`learning_rates` to be finite and positive",
    "sweep --learning-rates adam=1 --dry-run": "`learning_rates` for each of sgd",
    "sweep --optimizers lion": "`optimizers` to be of sgd, adam, adamw",
    "sweep --padding some": "`padding` to be one of",
    "sweep --memory-gb 0.0001": "fit memory_gb=0.0001",
    "sweep --out pyproject.toml": "`out` to be a directory",
    "transfer --widths 0,8": "`width` to be a positive int, got width=0",
    "transfer --learning-rates sgd=1:2:3": "`learning_rates` for each of sgd, adam",
    "transfer --widths 8": "`widths` to name two or more, got widths=8",
    "describe --parametrization mupp": "`parametrization` to be one of",
    "describe --width 0": "`width` to be a positive int",
    "describe --depth 0": "`depth` to be a positive int",
    "transform": "No such command",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line_and_exit_code_two(command, words):
    code, _, message = command(*words.split())
    assert code == 2, message
    assert BAD[words] in message
    if message.startswith("mupjax: error:"):  # ours; usage errors are the command line library's
        assert message.count("\n") == 1
    assert "Traceback" not in message


GRID = "sweep --parametrizations mup,sp --widths 4,8 --depths 1 --learning-rates .1:.4:3 --seeds 2 --steps 3"


def test_sweep_plans_computes_resumes_and_loses_nothing_to_a_full_disk(tmp_path, command):
    words = [*GRID.split(), "--train-size", "8", "--test-size", "none"]
    plan = command(*words, "--dry-run")
    assert "24 runs in 2 cells; 1 programs to compile." in plan.stdout
    out = tmp_path / "out"
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2); "
    limited += "from mupjax.cli import main; main()"
    full = [sys.executable, "-c", limited, "2400", *words, "--no-cache", "--out", str(out)]
    full = subprocess.run(full, capture_output=True, text=True)
    assert full.returncode == 2
    assert "File too large" in full.stderr
    assert "Traceback" not in full.stderr
    first = command(*words, "--out", str(out))
    assert first.returncode == 0, first.stderr
    assert {"results.zarr", "report.html", "learning_rates.png"} <= {path.name for path in out.iterdir()}
    arguments = json.loads(store.read(out / "results.zarr").attrs["arguments"])
    assert arguments["dataset"] == "digits"
    assert arguments["learning_rates"] == {"sgd": [0.1, 0.2, 0.4]}
    again = command(*words, "--out", str(out))
    assert again.stdout == first.stdout


def test_help_names_every_option_and_version_prints(command):
    done = command("compare", "--help")
    assert done.returncode == 0
    for option in (
        "--dataset",
        "--parametrizations",
        "--widths",
        "--depth",
        "--activation",
        "--seeds",
        "--steps",
        "--out",
    ):
        assert option in done.stdout
    assert command("--version").stdout.strip() == mupjax.__version__


def test_describe_prints_the_scaling_of_every_parameter(command):
    done = command(
        *["describe", "--parametrization", "mup", "--width", "256", "--depth", "2", "--learning-rate", "0.5"]
    )
    assert done.returncode == 0, done.stderr
    rows = {line.split()[1]: line.split() for line in done.stdout.splitlines() if "kernel" in line}
    assert set(rows) == {"layer_1/kernel", "layer_2/kernel", "readout/kernel"}
    numbers = {name: [word for word in row if word not in "│┃"] for name, row in rows.items()}
    assert numbers["layer_1/kernel"][5:8] == ["1", "128", "0.5"]  # init std 1, SGD rate eta n, Adam rate eta
    assert numbers["layer_2/kernel"][5:8] == ["0.0625", "0.5", "0.001953"]  # 1/sqrt(n), eta, eta/n
    assert numbers["readout/kernel"][5:8] == ["0.003906", "0.001953", "0.001953"]  # 1/n, eta/n, eta/n
    assert "feature" in done.stdout
