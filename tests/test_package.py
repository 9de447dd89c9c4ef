"""The package as it is installed: wheel, types, light imports, documents that agree."""

import importlib
import pkgutil
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mupjax
from mupjax import plots, report

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", str(out), str(ROOT)], check=True, capture_output=True
    )
    (built,) = out.glob("mupjax-*.whl")
    return built


def test_wheel_holds_the_package_its_types_and_its_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "mupjax/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "mupjax").rglob("*.py")}
    assert modules <= set(names)
    assert not any(name.startswith(("tests", "benchmarks")) for name in names)


def test_installed_wheel_runs_away_from_the_checkout(wheel, tmp_path):
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--target", str(tmp_path / "site"), str(wheel)], check=True, capture_output=True)
    program = "import sys; sys.path.insert(0, 'site'); import mupjax; print(mupjax.__file__, mupjax.__version__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    file, version = done.stdout.split()
    assert Path(file).is_relative_to(tmp_path)
    assert version == mupjax.__version__


def test_import_loads_no_heavy_library():
    program = (
        "import jax, flax, optax, sys; before = set(sys.modules); import mupjax; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {"xarray", "zarr", "sklearn", "matplotlib", "pooch", "typer", "neural_tangents", "tqdm", "pandas", "scipy"}
    assert not loaded & heavy


def test_no_name_hides_a_module():
    """`import mupjax.optim.tracking as tracking` gives the module, of every package, once all are loaded."""
    names = [name for _, name, _ in pkgutil.walk_packages(mupjax.__path__, "mupjax.")]
    modules = {name: importlib.import_module(name) for name in names if not name.endswith("._neural_tangents")}
    hidden = []
    for name, module in modules.items():
        package, _, own = name.rpartition(".")
        if getattr(sys.modules[package], own) is not module:
            hidden.append(name)
    assert len(modules) > 100
    assert not hidden


@pytest.mark.parametrize("package", [mupjax, plots, report])
def test_names_of_a_package_are_there_and_imported_for_type_checkers(package):
    """Those that are imported when first used stand among the imports that a type checker reads, and nowhere else."""
    source = Path(package.__file__).read_text()
    read = {*re.findall(r"^ *from \S+ import (\w+) as \1\b", source, re.MULTILINE)}
    assert set(package.__all__) == read
    assert set(package.__all__) <= set(dir(package))
    star = {}
    exec(f"from {package.__name__} import *", star)
    assert all(star[name] is getattr(package, name) for name in package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = package.absent


def test_import_does_not_touch_the_device_count():
    program = "import mupjax, jax; jax.config.update('jax_num_cpu_devices', 3); print(jax.device_count())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"


def test_documents_name_the_version():
    for document in ("CITATION.cff", "CHANGELOG.md", "pyproject.toml"):
        assert re.search(rf"\b{re.escape(mupjax.__version__)}\b", (ROOT / document).read_text()), document


def test_pins_agree_with_the_declared_requirements():
    """Every runtime requirement is in both pinned lists."""
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("dependencies = [")[1].split("]")[0]
    required = {re.match(r'\s*"([A-Za-z0-9-]+)', line).group(1).lower() for line in block.splitlines() if '"' in line}
    lists = list((ROOT / "requirements").glob("py3*.txt"))
    assert len(lists) == 2
    for pins in lists:
        pinned = {line.partition("==")[0].lower() for line in pins.read_text().splitlines()}
        assert required <= pinned
        assert "neural-tangents" in pinned
        assert "tensorflow" not in pinned


@pytest.mark.xdist_group("guard")
def test_groups_of_tests_share_a_process(request):
    """Groups go by names of tests, which pytest 9.2 no longer lets pytest-xdist 3.8 change: fixtures ran twice."""
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@guard")


def test_pins_of_a_device_are_those_of_the_newest_list():
    """A device's machine brings JAX, Flax, Optax, chex, NumPy and xarray; mup is the benchmarks' alone."""
    pins = {name: (ROOT / "requirements" / name).read_text().splitlines() for name in PINS}
    lines = [line for line in pins["device.txt"] if not line.startswith("#")]
    assert set(lines) <= {*pins["py312-jax0.11.txt"], *pins["bench.txt"]}
    assert "neural-tangents==0.6.5" in lines


PINS = ("device.txt", "py312-jax0.11.txt", "bench.txt")
