"""The command line as a user meets it: a run and a kill in processes of their own, the rest through `main()`."""

import inspect
import json
import re
import shlex
import signal
import subprocess
import sys
from functools import partial
from typing import Annotated, NamedTuple

import pytest
import typer
from typer.testing import CliRunner

import mupjax
from mupjax import cli
from mupjax.cli import options, parsing
from mupjax.cli.command import Command, keywords
from mupjax.report.settings import settings
from mupjax.reproduce import PAPERS
from mupjax.results import store

pytestmark = pytest.mark.xdist_group("command line")  # one process: its runs are shared by the tests
SMALL = "compare --widths 8,16 --depth 2 --seeds 2 --steps 5 --train-size 8 --test-size 4"


def run(*words, timeout=300):
    return subprocess.run([sys.executable, "-m", "mupjax.cli", *words], capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def here(monkeypatch, capsys):
    """Run words in this process, where JAX runs already: exit code, stdout and stderr."""

    def call(*words):
        monkeypatch.setattr("mupjax.cli.running.prepare_jax", lambda cache: None)
        monkeypatch.setattr(sys, "argv", ["mupjax", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "results"
    return out, run(*SMALL.split(), "--out", str(out))


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


def test_the_reports_settings_are_words(finished):
    """What a store keeps for itself is no setting, and a plan is its numbers of cells and programs."""
    rows = dict(settings(store.read(finished[0] / store.STORE)))
    assert rows["plan"] == "8 cells, 2 compiled programs"
    assert not {"kind", "cell variables", "cell dims", "complete"} & set(rows)
    assert not any("{" in text or "[" in text for text in rows.values())


def test_the_same_command_resumes_and_another_is_refused(finished, here):
    out, done = finished
    before = (out / "results.zarr" / "zarr.json").stat().st_mtime_ns
    code, again, _ = here(*SMALL.split(), "--out", str(out))
    assert code == 0
    assert "holds finished results" in again
    assert again.split("\n", 1)[1].strip() == done.stdout.strip()
    code, _, message = here(*SMALL.replace("--steps 5", "--steps 6").split(), "--out", str(out))
    assert code == 2
    assert "steps=5, not 6" in message
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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.zarr"}
    assert store.attributes(tmp_path / "out" / "results.zarr")["complete"] == 0


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
    "coord-check --test-size 8": "No such option",
    "sweep --depths 1,b": "`depths` to hold whole numbers, got 'b'",
    "sweep --widths 8,8": "`widths` to be distinct",
    "sweep --learning-rates 1:2": "`learning_rates` as LOW:HIGH:COUNT",
    "sweep --learning-rates 2:1:3": "0 < LOW < HIGH",
    "sweep --learning-rates 0": "`learning_rates` to be finite and positive",
    "sweep --learning-rates adam=1 --dry-run": "`learning_rates` for each of sgd",
    "sweep --optimizers lion": "`optimizers` to be one of sgd, adam, adamw",
    "sweep --padding some": "`padding` to be one of",
    "sweep --memory-gb 0.0001": "fit memory_gb=0.0001",
    "sweep --out pyproject.toml": "`out` to be a directory",
    "transfer --widths 0,8": "`width` to be a positive int, got width=0",
    "transfer --learning-rates sgd=1:2:3": "`learning_rates` for each of sgd, adam",
    "transfer --widths 8": "`widths` to name two or more, got widths=(8,)",
    "describe --parametrization mupp": "`parametrization` to be one of",
    "describe --width 0": "`width` to be a positive int",
    "describe --width 8,16": "`width` to be one width, got width=8,16",
    "describe --depth 0": "`depth` to be a positive int",
    "transform": "No such command",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line_and_exit_code_two(words, here):
    code, _, message = here(*words.split())
    assert code == 2, message
    assert BAD[words] in message
    if message.startswith("mupjax: error:"):  # ours; usage errors are the command line library's
        assert message.count("\n") == 1


GRID = "sweep --parametrizations mup,sp --widths 4,8 --depths 1 --learning-rates .1:.4:3 --seeds 2 --steps 3"


def test_sweep_plans_computes_resumes_and_loses_nothing_to_a_full_disk(tmp_path, here):
    words = [*GRID.split(), "--train-size", "8", "--test-size", "none"]
    assert "24 runs in 2 cells; 1 programs to compile." in here(*words, "--dry-run")[1]
    out = tmp_path / "out"
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2); "
    limited += "from mupjax.cli import main; main()"
    command = [sys.executable, "-c", limited, "2400", *words, "--no-cache", "--out", str(out)]
    full = subprocess.run(command, capture_output=True, text=True)
    assert full.returncode == 2
    assert "File too large" in full.stderr
    assert "Traceback" not in full.stderr
    code, first, message = here(*words, "--out", str(out))
    assert code == 0, message
    assert {"results.zarr", "report.html", "learning_rates.png"} <= {path.name for path in out.iterdir()}
    arguments = json.loads(store.read(out / "results.zarr").attrs["arguments"])
    assert arguments["dataset"] == "digits"
    assert arguments["learning_rates"] == {"sgd": [0.1, 0.2, 0.4]}
    found, again = here(*words, "--out", str(out))[1].split("\n", 1)
    assert found.endswith("holds finished results.")
    assert again == first


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_transfer_is_one_study_in_python_and_on_the_command_line(momentum, tmp_path, here):
    """The same defaults, to the bit of a rate: the store of one is the other's."""
    data = options.Data(classes="all", train_size=16, test_size="none", loss="cross_entropy")
    words = "--widths 4,8 --depth 1 --seeds 2 --steps 1 --batch-size 8 --optimizers sgd --train-size 16"
    code, printed, message = here(*f"transfer {words} --momentum {momentum} --out {tmp_path}".split())
    assert code == 1, message  # one step of two seeds shows nothing
    assert "sp (sgd): the best rate falls" in printed
    network = {"widths": (4, 8), "depth": 1, "seeds": 2, "steps": 1, "batch_size": 8, "out": tmp_path}
    optimizers = {"sgd": partial(mupjax.sgd, momentum=momentum)} if momentum else ("sgd",)
    task = mupjax.datasets.load("digits", **parsing.task(data))
    again = mupjax.transfer(task, optimizers=optimizers, about=parsing.about(data), **network)
    assert tuple(again.parametrization.values) == ("sp", "mup")


COMMANDS = ("compare", "limit", "sweep", "transfer", "coord-check", "describe")


def help_of(*words):
    return CliRunner().invoke(cli.app, [*words, "--help"], catch_exceptions=False, env={"COLUMNS": "80"}).output


def example_of(*words):
    """The last line of a help text, as the words that follow the program's name."""
    *_, heading, line = help_of(*words).rstrip().splitlines()
    assert heading.strip() == "Example:"
    program, *words = shlex.split(line)
    assert program == "mupjax"
    return words


OF_PAPERS = [("reproduce", name) for name in PAPERS]


class Parsed(Exception):
    """All words were read: JAX would start."""


@pytest.mark.parametrize(
    "command", [(), *[(name,) for name in COMMANDS if name != "describe"], ("reproduce",), *OF_PAPERS]
)
def test_the_example_of_a_help_text_is_read_to_the_end(command, monkeypatch):
    """Up to the computation, which other tests run: `describe`'s, below, runs in full."""

    def stop(cache):
        raise Parsed

    monkeypatch.setattr("mupjax.cli.running.prepare_jax", stop)
    monkeypatch.setattr(sys, "argv", ["mupjax", *example_of(*command)])
    with pytest.raises(Parsed):
        cli.main()


def test_the_example_of_describe_runs(here):
    code, printed, _ = here(*example_of("describe"))
    assert code == 0
    assert "layer_1/kernel" in printed


@pytest.mark.parametrize("command", [("reproduce",), *OF_PAPERS])
def test_help_of_papers_fits_80_columns(command):
    assert max(map(len, help_of(*command).splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_names_what_the_tables_hold(command):
    text = help_of(command)
    assert max(map(len, text.splitlines())) <= 80
    words = set(text.replace(",", " ").replace(".", " ").replace(";", " ").split())
    named = {*mupjax.activations.ACTIVATIONS}
    if command != "describe":
        named |= {*mupjax.datasets.NAMES, "mse", "cross_entropy", "--out", "--key", "--memory-gb"}
    named |= {*mupjax.parametrization.PRESETS}
    if command in ("sweep", "transfer", "coord-check"):
        named |= {*mupjax.optim.OPTIMIZERS}
    assert named <= words


@pytest.mark.parametrize("command", [*[(name,) for name in COMMANDS], *OF_PAPERS])
def test_defaults_in_a_help_text_are_those_of_the_values(command):
    """None is said in words, which give way to another default; no other words speak of defaults."""
    text = " ".join(help_of(*command).split())
    assert "by default" not in text.lower()
    shown = re.findall(r"--batch-size <int> Inputs a step sees\. +\[default: (.*?)\]", text)
    assert shown == {"compare": ["(all)"], "limit": ["(all)"], "sweep": ["(all)"], "transfer": ["64"]}.get(
        command[0], []
    )
    gb = re.findall(r"in GB\. +\[default: \((.*?) on CPUs", text)
    assert gb == ([] if command[0] == "describe" else ["20"] if command[0] == "reproduce" else ["8"])


def test_a_check_of_coordinates_has_no_test_set():
    assert "--test-size" in help_of("limit")
    assert "--test-size" not in help_of("coord-check")


class Group(NamedTuple):
    height: Annotated[int, typer.Option(help="Of the group.")] = 1
    flat: Annotated[bool, typer.Option("--flat", help="Of the group.")] = False


class Toy(NamedTuple):
    first: Annotated[str, typer.Option(help="Before the group.")] = "a"
    group: Group = Group(height=2)
    last: Annotated[float | None, typer.Option(help="After it.")] = None


def toy(*words, **command):
    """The record that a command of `Toy` is called with."""
    given = []

    def take(record: Toy) -> None:
        """Take a record."""
        given.append(record)

    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    Command(take, Toy(), example="toy", **command).add_to(app)
    done = CliRunner().invoke(app, words)
    return given[0] if given else done.output


def test_a_command_is_called_with_its_record_filled():
    assert toy() == Toy()
    assert toy("--height", "5", "--flat", "--last", ".5") == Toy("a", Group(5, True), 0.5)
    assert keywords(Toy(last=3.0)) == {"first": "a", "height": 2, "flat": False, "last": 3.0}


def test_options_stand_in_the_order_of_the_fields_and_some_may_be_left_out():
    shown = [line.split()[0] for line in toy("--help").splitlines() if line.startswith("  --")]
    assert shown == ["--first", "--height", "--flat", "--last", "--help"]
    assert "No such option" in toy("--height", "5", without=("height",))
    assert toy("--flat", without=("height",)) == Toy(group=Group(2, True))


def test_an_option_of_two_groups_is_refused():
    class Twice(NamedTuple):
        one: Group = Group()
        other: Group = Group()

    with pytest.raises(ValueError, match="duplicate parameter name: 'height'"):
        Command(lambda record: None, Twice(), example="twice").add_to(typer.Typer())


def test_the_words_of_the_command_line_are_those_of_python():
    """Every option of the shared groups is a keyword of the function that it goes to."""
    studies = ("compare", "limit", "sweep", "transfer")
    takes = {name: set(inspect.signature(getattr(mupjax, name)).parameters) for name in studies}
    for name, takes_too in takes.items():
        assert set(keywords(options.Network())) <= takes_too, name
        assert set(keywords(options.Training())) - {"momentum"} <= takes_too, name
    loaded = set(inspect.signature(mupjax.datasets.load).parameters)
    assert set(keywords(options.Data())) - {"dataset"} <= loaded


def test_version_prints():
    assert run("--version").stdout.strip() == mupjax.__version__


def test_describe_prints_the_scaling_of_every_parameter():
    words = ["describe", "--parametrization", "mup", "--width", "256", "--depth", "2", "--learning-rate", "0.5"]
    printed = CliRunner().invoke(cli.app, words, catch_exceptions=False).stdout
    rows = {line.split()[1]: line.split() for line in printed.splitlines() if "kernel" in line}
    assert set(rows) == {"layer_1/kernel", "layer_2/kernel", "readout/kernel"}
    numbers = {name: [word for word in row if word not in "│┃"] for name, row in rows.items()}
    assert numbers["layer_1/kernel"][5:8] == ["1", "128", "0.5"]  # init std 1, SGD rate eta n, Adam rate eta
    assert numbers["layer_2/kernel"][5:8] == ["0.0625", "0.5", "0.001953"]  # 1/sqrt(n), eta, eta/n
    assert numbers["readout/kernel"][5:8] == ["0.003906", "0.001953", "0.001953"]  # 1/n, eta/n, eta/n
    assert "feature" in printed
