"""Text of the command line to values; what cannot be read is a ValueError that names the option."""

from __future__ import annotations

from typing import Any


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


def number(name: str, text: str) -> float:
    """Return a float; `name` is the option's, for the error."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"Expected `{name}` to be a number, got {text!r}.") from None


def learning_rate(text: str | None) -> float | dict[str, float] | None:
    """Return None, one rate, or those of several parametrizations: "mup=1,ntp=.3" is {"mup": 1.0, "ntp": 0.3}."""
    if text is None or "=" not in text:
        return None if text is None else number("learning_rate", text)
    pairs = [entry.partition("=") for entry in names(text)]
    return {name.strip(): number("learning_rate", rate) for name, _, rate in pairs}


def standardize(text: str) -> Any:
    """Return a word as it is, or "MEAN,STD" as two numbers."""
    if "," not in text:
        return text
    numbers = tuple(number("standardize", part) for part in names(text))
    if len(numbers) != 2:
        raise ValueError(f"Expected `standardize` to be 'mean', 'none' or MEAN,STD, got {text!r}.")
    return numbers
