"""Build commands from records of their options.

A record is a NamedTuple whose fields are options, `name: Annotated[type, typer.Option(...)] = default`, or groups of
options, which are records too. A command has the options of its record and of the groups in it, in order. Help texts
show defaults by their values; an option's `show_default=` says in words what None stands for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from copy import copy
from typing import Annotated, Any, Generic, NamedTuple, Protocol, TypeVar, get_args, get_type_hints, runtime_checkable

import typer
from typer.models import OptionInfo

Keywords = dict[str, Any]  # of a function, by name


@runtime_checkable
class Record(Protocol):
    """A NamedTuple, of whatever fields."""

    def _asdict(self) -> Keywords: ...

    def _replace(self, **fields: object) -> Any: ...


R = TypeVar("R", bound=Record)


class Command(NamedTuple, Generic[R]):
    """A function of one record, and what the command line says about it.

    Attributes:
      run: the command; its name and docstring are those of the command line.
      options: its record, filled with the defaults.
      example: a call to copy, which ends the help.
      without: options of the record's groups that this command does not have; they keep their defaults.
    """

    run: Callable[[R], None]
    options: R
    example: str
    without: tuple[str, ...] = ()

    def add_to(self, app: typer.Typer) -> None:
        """Make this a command of `app`."""

        def command(**values: object) -> None:
            self.run(_filled(self.options, values))

        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for name, hint, default in _options(self.options)
            if name not in self.without
        ]
        command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        name = self.run.__name__.replace("_", "-")
        app.command(name, help=self.run.__doc__, epilog=epilog(self.example))(command)


def epilog(example: str) -> str:
    r"""Return the end of a help text; after `\b` Typer keeps lines as they are."""
    return f"\b\nExample:\n  {example}"


def keywords(options: Record) -> Keywords:
    """Return the options of a record and of its groups, by name.

    Example:
      >>> class Training(NamedTuple):
      ...     steps: int = 200
      >>> class Study(NamedTuple):
      ...     seeds: int = 3
      ...     training: Training = Training()
      >>> keywords(Study(seeds=5))
      {'seeds': 5, 'steps': 200}
    """
    flat: Keywords = {}
    for name, value in options._asdict().items():
        flat |= keywords(value) if isinstance(value, Record) else {name: value}
    return flat


def _options(record: Record) -> Iterator[tuple[str, object, object]]:
    """Yield the name, annotation and default of every option of a record and of its groups."""
    hints = get_type_hints(type(record), include_extras=True)
    for name, value in record._asdict().items():
        if isinstance(value, Record):
            yield from _options(value)
        else:
            yield name, _shown(hints[name], value), value


def _shown(hint: Any, default: object) -> object:
    """Return an option's annotation, without the words for None where the default is another."""
    kind, about = get_args(hint)
    if default is None or not isinstance(about, OptionInfo) or not isinstance(about.show_default, str):
        return hint
    about = copy(about)
    about.show_default = True
    return Annotated[kind, about]


def _filled(record: R, values: dict[str, object]) -> R:
    """Return the record with these values of its options and of its groups'."""
    fields = record._asdict()
    return record._replace(
        **{
            name: _filled(value, values) if isinstance(value, Record) else values.get(name, value)
            for name, value in fields.items()
        }
    )
