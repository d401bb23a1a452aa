"""A table of one's own: a CSV file with a path, one column a class, and optionally a mask, a split and a group."""

import csv
import io
import itertools
import re
from contextlib import suppress
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from tinct.data.folder import split_of
from tinct.data.labelled import LabelledFiles, Task, checked_mask, read_indices, spelled
from tinct.data.subsets import drawn_split
from tinct.errors import AbsentSplitError, SeveralError, TinctError
from tinct.files import expanded

__all__ = ["Table"]

RESERVED = ("path", "mask", "split", "group")
PATHS = ("path", "filename", "file_name", "file", "image")
"""What the column of paths may be called, in any case."""
NAMING = ("label", "labels")
"""What a column that names classes is called, in any case."""
ALONE = ("class", "classes")
"""What it may be called too where it is the only one: beside others it may be one of a taxonomy's ranks."""
LISTED = 10
"""How many columns or groups a note names."""
SEPARATORS = ",;\t"
WORDS = {"true": "1.0", "false": "0.0"}
"""What spreadsheets make of 1 and 0."""


class Table(LabelledFiles):
    """`csv:FILE`: comma-separated (or by semicolons or tabs), a header, a row a picture.

    Columns: `path` (or filename, file_name, file, image); optionally `mask`, `split` (train, val, test, or what folders
    of splits are called) and `group` (a camera, a site, a series; empty: the picture is one by itself); every other
    column is a class, each cell 1 or TRUE (present), 0 or FALSE (absent) or empty (unknown: left out of losses and
    metrics). Or a column `label` with names, such as `cat|animal`: separators are | ; and comma, an empty cell is
    unknown, and other columns are passed over. Paths start from the file's folder. In masks 0 is the background, k the
    k-th class column, 255 void; a row without a mask has no part in segmentation.
    Without a `split` column about a fifth, drawn by the paths as they are written, is `val` and the rest `train`; of
    groups about a fifth, drawn by their names. A picture that is listed again counts once: with the same cells, or with
    all the names of its rows.

    Args:
        path: the file.
        split: `train`, `val` or `test`.
        task: which labels to give.

    Raises:
        TinctError: the file is unreadable, a column, row or cell is wrong, or a picture has other cells in another row:
            the line names file, row and column.
    """

    def __init__(self, path: str, split: str, task: Task) -> None:
        file = expanded(path)
        header, rows = _read(file)
        columns = tuple(column for column in header if column not in RESERVED)
        if not columns:
            raise TinctError(f"{file}: no class column; add one for each class beside {', '.join(RESERVED)}")
        self._named = _naming(columns, rows)
        listed, rows = len(rows), _once(rows, self._named, file)
        said = _said(columns, self._named, listed - len(rows)) if self._named else ""
        if task == "segmentation" and "mask" not in header:
            raise AbsentSplitError(f"{file}: no column 'mask'; add one, or choose the multilabel task")
        if task == "segmentation" and self._named:
            raise AbsentSplitError(f"{file}: masks need a column for each class, in the order of their values")
        if self._named:
            names = {name for _, row in rows for name in _names(row[self._named])}
            columns = tuple(sorted(names, key=lambda name: (int(name) if name.isdecimal() else -1, name)))
        rows = self._of_split(rows, split, file)
        self.note = "; ".join(filter(None, (said, self.note)))
        if task == "segmentation":  # after the split, which is the same for both tasks
            rows = [(line, row) for line, row in rows if row["mask"]]
            if not rows:
                raise AbsentSplitError(f"{file}: no row of the {split} split has a mask")
        self._file, self._rows = file, rows
        if "group" in header:
            self.groups = np.unique([_group(row) for _, row in rows], return_inverse=True)[1]
        super().__init__((spelled(row["path"], file.parent) for _, row in rows), file.parent, f"csv:{path}", split)
        if task == "multilabel":
            self.classes = columns
        else:
            self.mask_classes, self.background = ("background", *columns), 0

    def _of_split(self, rows: list["Row"], split: str, file: Path) -> list["Row"]:
        """The rows of one split."""
        if "split" in rows[0][1]:
            splits = [split_of(row["split"]) for _, row in rows]
            for (line, row), found in zip(rows, splits, strict=True):
                if found is None:
                    raise TinctError(
                        f"{file}, line {line}, column 'split': {row['split']!r}; expected train, val or test"
                    )
            chosen = [row for row, found in zip(rows, splits, strict=True) if found == split]
            present = {str(found) for found in splits}
            learned, scored = set[str](), set[str]()
            for (_, row), found in zip(rows, splits, strict=True):
                (learned if found == "train" else scored).add(row.get("group", ""))
            if torn := sorted(learned & scored - {""}):
                self.note = f"has groups in train and in another split, so that scores may be too high: {_listed(torn)}"
        else:
            names = [_group(row) for _, row in rows]
            labelled = {name for name, (_, row) in zip(names, rows, strict=True) if self._labels_something(row)}
            # apart, so that none without a label decides on which side those are that have some
            drawn = drawn_split(names, split, np.array([name in labelled for name in names]))
            chosen = [rows[place] for place in np.flatnonzero(drawn)]
            present = {"train", "val"}
            what, by = ("groups", "names") if "group" in rows[0][1] else ("rows", "paths")
            if not chosen and split in present:
                few = f"too few labelled {what} ({len(labelled)})"
                raise AbsentSplitError(f"{file}: {few} to draw a {split} split from; add more")
            self.note = (
                f"has no column 'split': about a fifth of the {what}, drawn by their {by}, is val, the rest train"
            )
        if not chosen:
            raise AbsentSplitError(
                f"{file}: no rows of the {split} split; its splits are: {', '.join(sorted(present))}"
            )
        return chosen

    def _labels_something(self, row: dict[str, str]) -> bool:
        """Whether a row has a label for either task."""
        said = {self._named} if self._named else row.keys() - {"path", "split", "group"}
        return any(row[column] for column in said | (row.keys() & {"mask"}))

    def read_labels(self) -> NDArray[np.float32]:
        """See `LabelledFiles.read_labels`."""
        return self._truths() if self._named is None else self._among(self._named)

    def _among(self, column: str) -> NDArray[np.float32]:
        """Which classes the cells of a column name."""
        found = [_names(row[column]) if row[column] else None for _, row in self._rows]
        values = [[np.nan if given is None else float(name in given) for name in self.classes] for given in found]
        return np.array(values, np.float32)

    def _truths(self) -> NDArray[np.float32]:
        """The cells of a table with a column for each class."""
        values = [[_truth(row[name]) for name in self.classes] for _, row in self._rows]
        cells = [
            [f"line {line}, column {name!r}: {row[name]!r}" for line, row in self._rows if _truth(row[name]) is None]
            for name, found in zip(self.classes, zip(*values, strict=True), strict=True)
            if None in found
        ]
        # a cell of each column comes first: what is no class at all is wrong in every row
        wrong = [cell for layer in itertools.zip_longest(*cells) for cell in layer if cell]
        if wrong:
            remedy = "delete the column if it is no class, call it 'label' if it names classes"
            raise SeveralError(f"{self._file}, {wrong[0]}; expected 0, 1 or an empty cell; {remedy}", *wrong[1:])
        return np.array(values, np.float32)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """See `LabelledSource.mask`."""
        path = self.root / spelled(self._rows[index][1]["mask"], self.root)
        return checked_mask(read_indices(path), path, self.path(index), len(self.mask_classes))


Row = tuple[int, dict[str, str]]
"""The line's number in the file, and its cells by column."""


def _key(row: dict[str, str]) -> str:
    """What tells a row's picture from others."""
    return PurePath(row["path"]).as_posix()


def _group(row: dict[str, str]) -> str:
    """What a row's picture belongs to; by itself, where nothing is said."""
    return row.get("group") or _key(row)


def _truth(cell: str) -> float | None:
    """1, 0, NaN of an empty cell; None of anything else."""
    with suppress(ValueError):
        cell = WORDS.get(cell.lower()) or str(float(cell))
    return {"": np.nan, "1.0": 1.0, "0.0": 0.0}.get(cell)


def _alike(cell: str, other: str) -> bool:
    """Whether two cells say the same, such as 1 and TRUE."""
    return cell == other or (_truth(cell) is not None and _truth(cell) == _truth(other))


def _names(cell: str) -> set[str]:
    """The classes that a cell names, also as a list that pandas or JSON wrote: ['fox', 'deer']."""
    listed = cell[:1] + cell[-1:] == "[]"
    parts = re.split(r"[|;,]", cell[1:-1] if listed else cell)
    return {name for part in parts if (name := part.strip(" '\"" if listed else None))}


def _naming(columns: tuple[str, ...], rows: list[Row]) -> str | None:
    """The first column that is called so and names classes, rather than being one itself; None without."""
    called = NAMING if len(columns) > 1 else NAMING + ALONE
    found = (column for column in columns if column.lower() in called)
    return next((column for column in found if any(_truth(row[column]) is None for _, row in rows)), None)


def _said(columns: tuple[str, ...], named: str, again: int) -> str:
    """What becomes of the columns beside the one that names classes, and of the rows that list a picture again."""
    said, others = [], [column for column in columns if column != named]
    if others:
        said.append(f"has its classes in column {named!r} (passed over: {_listed(others)})")
    if again:
        said.append(f"has rows that list a picture again ({again:,}): the classes of its rows are united")
    return "; ".join(said)


def _listed(names: list[str]) -> str:
    """The first of some names, and how many there are more."""
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _read(file: Path) -> tuple[list[str], list[Row]]:
    """Read the file's header, with `path`, `split` and `group` so called, and its rows; at least one."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise TinctError(f"{file}: not in UTF-8; save it as CSV UTF-8")
        headers = {mark: _header(text, mark) for mark in SEPARATORS}
        separator = next((mark for mark in SEPARATORS if "path" in headers[mark]), ",")
        header = headers[separator]
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)][1:]
    except UnicodeDecodeError as error:
        raise TinctError(f"{file}: {error}; save it as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise TinctError(f"{file}: {reason}; expected a comma-separated table in UTF-8") from error
    if "path" not in header:
        raise TinctError(f"{file}, line 1: no column 'path' among {', '.join(header) or 'none'}")
    for line, row in rows:
        if len(row) != len(header):
            raise TinctError(f"{file}, line {line}: {len(row)} cells; expected {len(header)}, as in the header")
        if not row[header.index("path")]:
            raise TinctError(f"{file}, line {line}, column 'path': empty; expected a path to a picture")
    if not rows:
        raise TinctError(f"{file}: no rows below the header")
    if header[0] in ("", "Unnamed: 0") and all(row[0].isdecimal() for _, row in rows):  # pandas' index
        header, rows = header[1:], [(line, row[1:]) for line, row in rows]
    wrong = next((column for column in header if not column or header.count(column) > 1), None)
    if wrong is not None:
        raise TinctError(f"{file}, line 1: column {wrong!r}: a column needs a name of its own")
    return header, [(line, dict(zip(header, row, strict=True))) for line, row in rows]


def _header(text: str, separator: str) -> list[str]:
    """The columns' names, with `path`, `split` and `group` so called; one in quotes may hold a line break."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header = [column.strip() for column in next(filter(any, reader), [])]
    lower = [column.lower() for column in header]
    for name, words in (("path", PATHS), ("split", ("split",)), ("group", ("group",))):
        if name not in header and (word := next((word for word in words if word in lower), None)):
            header[lower.index(word)] = name
    return header


def _once(rows: list[Row], named: str | None, file: Path) -> list[Row]:
    """Each picture's first row; where a column names classes, with those of all its rows, as of one a detection.

    Raises:
        SeveralError: another row of it says something else; where a column names classes, of its mask, split or group.
    """
    compared = [column for column in rows[0][1] if column != "path" and (named is None or column in RESERVED)]
    first: dict[str, Row] = {}
    wrong = []
    for line, row in rows:
        before, other = first.setdefault(_key(row), (line, row))
        if differing := [column for column in compared if not _alike(row[column], other[column])]:
            said = f"{other[differing[0]]!r} and {row[differing[0]]!r} in column {differing[0]!r}"
            wrong.append(f"lines {before} and {line}: {_key(row)} has {said}")
        if named and row is not other:
            other[named] = "|".join(sorted(_names(other[named]) | _names(row[named]))) or other[named] or row[named]
    if wrong:
        raise SeveralError(f"{file}, {wrong[0]}; list a picture once", *wrong[1:])
    return list(first.values())
