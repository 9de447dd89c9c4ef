"""What the benchmarks share: goals, the machine's description, and the file of results."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADER = "# Results of the benchmarks\n"


def goal(what: str, figure: float | None, text: str, met: bool) -> str:
    """Return one goal's line: the figure as `text`, or 'not measured' for None."""
    word = "not measured" if figure is None else "met" if met else "not met"
    return f"goal: {what} | figure: {'-' if figure is None else text} | {word}"


def at_least(what: str, bound: float, figure: float | None, form: str = ".2f") -> str:
    """Return the line of a goal that is met from `bound` upwards."""
    return goal(f"{what} >= {bound:{form}}", figure, f"{figure or 0:{form}}", figure is not None and figure >= bound)


def at_most(what: str, bound: float, figure: float | None, form: str = ".2f") -> str:
    """Return the line of a goal that is met up to `bound`."""
    return goal(f"{what} <= {bound:{form}}", figure, f"{figure or 0:{form}}", figure is not None and figure <= bound)


def machine() -> str:
    """Return the processor's name and what the operating system offers of it."""
    return f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB memory, {platform.system()}"


def versions(*names: str) -> str:
    """Return 'Python x, name version, ...', 'not installed' included."""
    found = [f"Python {platform.python_version()}"]
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def spread(samples: list[float], digits: int = 3) -> str:
    """Return 'median (least-greatest)'."""
    return f"{median(samples):.{digits}f} ({min(samples):.{digits}f}-{max(samples):.{digits}f})"


def report(title: str, lines: list[str], goals: list[str], *, keep: bool = True) -> None:
    """Print lines and goals, and append them to RESULTS.md as a dated section if they are to be kept."""
    print("\n".join([*lines, "", *goals]), flush=True)
    if keep:
        _append([_heading(title), "", *lines, "", "```text", *goals, "```"], RESULTS)


def appender(title: str, results: Path | None) -> Callable[[str], None]:
    """Return a function that prints a line, or a goal, and adds it to a dated section of a file; None keeps nothing."""
    if results is not None:
        _append([_heading(title), ""], results)

    def add(line: str) -> None:
        text = f"- {line}" if line.startswith("goal: ") else f"\n{line}\n" if line.startswith("#") else line
        print(text, flush=True)
        if results is not None:
            _append([text], results)

    return add


def _heading(title: str) -> str:
    return f"\n## {title}, {datetime.date.today().isoformat()}"


def _append(lines: list[str], results: Path) -> None:
    before = results.read_text() if results.exists() else HEADER
    results.write_text(before + "\n".join(lines) + "\n")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
