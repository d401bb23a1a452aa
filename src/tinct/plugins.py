"""Terms and sources that other installed packages bring, by their entry points `tinct.terms` and `tinct.sources`.

An entry point is a line in a package's own metadata (docs/extend.md). It is imported when its name is used: a file of
weights, which may name a term, can have nothing imported but what was installed for tinct.
"""

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from tinct.errors import TinctError, one_line

__all__ = ["Group", "brought", "brought_by", "load"]

Group = Literal["terms", "sources"]


@functools.cache
def brought(group: Group) -> dict[str, EntryPoint]:
    """What there is, by name."""
    return {entry.name: entry for entry in entry_points(group=f"tinct.{group}")}


def brought_by() -> dict[str, str]:
    """The versions of the packages that bring anything, by their names."""
    found = [entry.dist for group in ("terms", "sources") for entry in entry_points(group=f"tinct.{group}")]
    return {package.name: package.version for package in found if package is not None}


def load(group: Group, name: str, *kinds: type) -> Any:
    """The class called `name`, imported.

    Raises:
        TinctError: it cannot be imported, or derives from none of `kinds`.
    """
    entry = brought(group)[name]
    try:
        found = entry.load()
    except Exception as error:  # it is somebody else's program
        why = f"{type(error).__name__}: {one_line(error)}"
        raise TinctError(f"{name}: {entry.value} cannot be imported ({why}); mend or uninstall it") from error
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise TinctError(f"{name}: {entry.value} derives from none of {', '.join(kind.__name__ for kind in kinds)}")
    return found
