"""Terms and sources that other installed packages bring, by their entry points `tinct.terms` and `tinct.sources`.

An entry point is a line in a package's own metadata (docs/extend.md). It is imported when its name is used: a file of
weights, which may name a term, can have nothing imported but what was installed for tinct.
"""

import functools
import inspect
from collections import defaultdict
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from tinct.errors import TinctError, one_line

__all__ = ["Group", "brought", "brought_by", "load"]

Group = Literal["terms", "sources"]


@functools.cache
def brought(group: Group) -> dict[str, list[EntryPoint]]:
    """What there is, by name."""
    found = defaultdict(list)
    for entry in entry_points(group=f"tinct.{group}"):
        found[entry.name].append(entry)
    return dict(found)


def brought_by() -> dict[str, str]:
    """The versions of the packages that bring anything, by their names."""
    groups: tuple[Group, ...] = ("terms", "sources")
    packages = [entry.dist for group in groups for entries in brought(group).values() for entry in entries]
    return {package.name: package.version for package in packages if package is not None}


def load(group: Group, name: str, *kinds: type) -> Any:
    """The class called `name`, imported.

    Raises:
        TinctError: two packages bring it, it cannot be imported, derives from none of `kinds`, or lacks methods.
    """
    entry, *others = brought(group)[name]
    packages = [one.dist.name if one.dist else one.value for one in (entry, *others)]
    if others:
        raise TinctError(f"{name}: is brought by {' and '.join(packages)}; uninstall all but one")
    remedy = f"mend or uninstall {packages[0]}"
    try:
        found = entry.load()
    except Exception as error:  # it is somebody else's program
        why = f"{type(error).__name__}: {one_line(error)}"
        raise TinctError(f"{name}: {entry.value} cannot be imported ({why}); {remedy}") from error
    if not (isinstance(found, type) and issubclass(found, kinds)):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise TinctError(f"{name}: {entry.value} is no class that derives from {expected}; {remedy}")
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise TinctError(f"{name}: {entry.value} lacks {lacking}; {remedy}")
    return found
