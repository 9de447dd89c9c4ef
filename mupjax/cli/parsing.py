"""Parse the command line's text to values; ValueErrors name the option."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import operator
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from mupjax import parametrization
from mupjax._checks import check_choice, check_distinct
from mupjax.cli.command import Keywords
from mupjax.cli.options import Data
from mupjax.optim import OPTIMIZERS, Optimizer, sgd
from mupjax.parametrization import Parametrization


def names(text: str) -> tuple[str, ...]:
    """Return the parts between commas: "sp, mup" is ("sp", "mup")."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def whole_number(name: str, text: str) -> int:
    """Return a whole number; `name` is the option's, for the error."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"Expected `{name}` to hold whole numbers, got {text!r}.") from None


def whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """Return whole numbers between commas."""
    return tuple(whole_number(name, part) for part in names(text))


def widths(text: str, name: str = "widths") -> tuple[int | tuple[int, ...], ...]:
    """Return widths between commas; 64x128x64 gives each layer its own: "8,64x128" is (8, (64, 128))."""
    parsed = (tuple(whole_number(name, part) for part in entry.split("x")) for entry in names(text))
    return tuple(entry[0] if len(entry) == 1 else entry for entry in parsed)


def base_width(text: str) -> int | tuple[int, ...]:
    """Return one base width; 64x32 gives each layer its own."""
    parsed = widths(text, "base_width")
    if len(parsed) != 1:
        raise ValueError(f"Expected `base_width` to be one width, such as 64 or 64x32, got {text!r}.")
    return parsed[0]


def number(name: str, text: str) -> float:
    """Return a float; `name` is the option's, for the error."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"Expected `{name}` to be a number, got {text!r}.") from None


def task(data: Data) -> Keywords:
    """Return the group as keywords of `datasets.load`, which takes the data set's name before them."""
    settings = data._asdict()
    del settings["dataset"]
    named = {"auto": "auto", "none": None}
    size = data.test_size
    return settings | {
        "classes": None if data.classes == "all" else whole_numbers("classes", data.classes),
        "test_size": named[size] if size in named else whole_number("test_size", size),
        "standardize": standardize(data.standardize),
    }


def about(data: Data) -> Keywords:
    """Return what is kept of the group with results: all but the folder that the files were in."""
    settings = {"dataset": data.dataset} | task(data)
    del settings["data_dir"]
    return settings


def optimizer(momentum: float) -> Keywords:
    """Return SGD with this momentum, as a keyword of a study."""
    return {"optimizer": partial(sgd, momentum=momentum)}


def optimizers(text: str, momentum: float) -> tuple[str, ...] | dict[str, Optimizer]:
    """Return names of optimizers, "sgd,adam", or where there is momentum the optimizers by name, SGD with it."""
    check_distinct(optimizers=names(text))
    for name in names(text):
        check_choice(tuple(OPTIMIZERS), optimizers=name)
    if momentum == 0:
        return names(text)
    known: dict[str, Optimizer] = OPTIMIZERS | {"sgd": partial(sgd, momentum=momentum)}
    return {name: known[name] for name in names(text)}


def learning_rate(text: str | None) -> float | dict[str, float] | None:
    """Return None, one rate, or those of several parametrizations: "mup=1,ntp=.3" is {"mup": 1.0, "ntp": 0.3}."""
    if text is None or "=" not in text:
        return None if text is None else number("learning_rate", text)
    pairs = [entry.partition("=") for entry in names(text)]
    return {name.strip(): number("learning_rate", rate) for name, _, rate in pairs}


def learning_rates(text: str) -> tuple[float, ...] | dict[str, tuple[float, ...]]:
    """Return rates for all optimizers, or of each: ".1,.2", "1:8:4" is (1, 2, 4, 8), "sgd=.1,.2;adam=1:8:4"."""
    if "=" not in text:
        return rates(text)
    pairs = [entry.partition("=") for entry in text.split(";") if entry.strip()]
    return {name.strip(): rates(part) for name, _, part in pairs}


def rates(text: str) -> tuple[float, ...]:
    """Return numbers between commas; LOW:HIGH:COUNT stands for COUNT of them in equal ratios."""
    found: list[float] = []
    for part in names(text):
        ends = part.split(":")
        if len(ends) == 1:
            found.append(number("learning_rates", part))
            continue
        if len(ends) != 3:
            raise ValueError(f"Expected `learning_rates` as LOW:HIGH:COUNT, got {part!r}.")
        low, high = (number("learning_rates", end) for end in ends[:2])
        count = whole_number("learning_rates", ends[2])
        if not 0 < low < high or count < 2:
            raise ValueError(f"Expected `learning_rates` with 0 < LOW < HIGH and COUNT >= 2, got {part!r}.")
        found += [float(f"{low * (high / low) ** (i / (count - 1)):.6g}") for i in range(count)]
    return tuple(found)


def parametrizations(
    text: str, *, base_width: int | tuple[int, ...], sp_exponent: float, depths: tuple[int, ...]
) -> tuple[Parametrization, ...]:
    """Return the named parametrizations, sp with its exponent of the learning rate."""
    depth = depths[0] if len(depths) == 1 else None
    options: dict[str, Keywords] = {name: {"base_width": base_width, "depth": depth} for name in names(text)}
    if "sp" in options:
        options["sp"]["learning_rate_exponent"] = sp_exponent
    return tuple(parametrization.get(name, **options[name]) for name in names(text))


def standardize(text: str) -> str | tuple[float, float]:
    """Return a word as it is, or "MEAN,STD" as two numbers."""
    if "," not in text:
        return text
    numbers = [number("standardize", part) for part in names(text)]
    if len(numbers) != 2:
        raise ValueError(f"Expected `standardize` to be 'mean', 'none' or MEAN,STD, got {text!r}.")
    return numbers[0], numbers[1]


def imported(name: str, text: str) -> Any:
    """Return what "pkg.mod:fn" names, looking in the working directory first; `name` is the option's, for the error."""
    module, _, attribute = text.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"Expected `{name}` to be 'package.module:function', got {text!r}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())


def source(name: str, text: str | None) -> str | None:
    """Return a digest of the file that "pkg.mod:fn" is in: a changed model is another one. None for a built-in name."""
    if text is None or ":" not in text:
        return None
    found = imported(name, text)
    file = inspect.getsourcefile(found) if inspect.isroutine(found) or inspect.isclass(found) else None
    return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
