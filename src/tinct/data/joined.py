"""Sources made of others: several of them one after the other, and one without some of its pictures."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinct.data.base import Source, fingerprint_of
from tinct.data.folder import PathSource

__all__ = ["Joined", "files_of", "without"]


class Joined(Source):
    """Several sources one after the other; where their folders differ, names begin with these, to be told apart."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = tuple(parts)
        self.spec = " ".join(part.spec for part in parts)
        self.split = parts[0].split
        roots = [_root(part) for part in parts]
        self.root = roots[0] if len(set(roots)) == 1 else None
        self._prefixes = roots if self.root is None else [None] * len(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        """The sum of the parts' lengths."""
        return int(self._ends[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """The number of the part that holds picture `index`, and the picture's index there."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        return part, index - (int(self._ends[part - 1]) if part else 0)

    def name(self, index: int) -> str:
        """The name its part gives it, after the part's folder as the user wrote it where there are several."""
        part, position = self.locate(index)
        name, prefix = self.parts[part].name(position), self._prefixes[part]
        return name if prefix is None else (prefix / name).as_posix()

    def picture(self, index: int, min_side: int | None = None) -> NDArray[np.uint8]:
        """See `Source.picture`."""
        part, position = self.locate(index)
        return self.parts[part].picture(position, min_side)

    def stamp(self, index: int) -> tuple[int, int]:
        """See `Source.stamp`."""
        part, position = self.locate(index)
        return self.parts[part].stamp(position)

    def fingerprint(self) -> str:
        """Over the parts' fingerprints and lengths, because a part may know a faster way to its own than its names."""
        return fingerprint_of(f"{part.fingerprint()} {len(part)}" for part in self.parts)


class _Without(Source):
    """A source without some of its pictures."""

    def __init__(self, source: Source, kept: Sequence[int]) -> None:
        self.source, self.kept = source, kept
        self.spec, self.split = source.spec, source.split

    def __len__(self) -> int:
        """How many are left."""
        return len(self.kept)

    def name(self, index: int) -> str:
        """The name in the source."""
        return self.source.name(self.kept[index])

    def picture(self, index: int, min_side: int | None = None) -> NDArray[np.uint8]:
        """See `Source.picture`."""
        return self.source.picture(self.kept[index], min_side)

    def stamp(self, index: int) -> tuple[int, int]:
        """See `Source.stamp`."""
        return self.source.stamp(self.kept[index])


def files_of(source: Source) -> list[Path]:
    """The files of a source that has them."""
    if isinstance(source, _Without):
        files = files_of(source.source)
        return [files[index] for index in source.kept]
    return [source.path(index) for index in range(len(source))] if isinstance(source, PathSource) else []


def without(source: Source, dropped: Collection[Path]) -> Source:
    """The source, or what is left of it."""
    files = files_of(source)
    kept = [index for index, file in enumerate(files) if file not in dropped]
    return _Without(source, kept) if len(kept) < len(files) else source


def _root(source: Source) -> Path | None:
    """The folder that a source's names start from; None where they are no paths, or are whole already."""
    if isinstance(source, _Without):
        return _root(source.source)
    return source.root if isinstance(source, PathSource | Joined) else None
