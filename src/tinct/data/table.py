"""A table of one's own: a CSV file with a path, one column a class, and optionally a mask and a split."""

import csv
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from tinct.data.labelled import LabelledFiles, Task, checked_mask, read_indices, require_positives
from tinct.data.subsets import held_out
from tinct.errors import AbsentSplitError, TinctError
from tinct.files import expanded

__all__ = ["Table"]

RESERVED = ("path", "mask", "split")
SPLITS = ("train", "val", "test")


class Table(LabelledFiles):
    """`csv:FILE`: comma-separated, a header, a row a picture.

    Columns: `path`; optionally `mask` and `split` (train, val, test); every other column is a class, each cell 1
    (present), 0 (absent) or empty (unknown: left out of losses and metrics). Paths start from the file's folder. In
    masks 0 is the background, k the k-th class column, 255 void; a row without a mask has no part in segmentation.
    Without a `split` column about a fifth, drawn by the paths as they are written, is `val` and the rest `train`.

    Args:
        path: the file.
        split: `train`, `val` or `test`.
        task: which labels to give.

    Raises:
        TinctError: the file is unreadable, or a column, row or cell is wrong: the line names file, row and column.
    """

    def __init__(self, path: str, split: str, task: Task) -> None:
        file = expanded(path)
        rows = _read(file)
        names = tuple(column for column in rows[0][1] if column not in RESERVED)
        if not names:
            raise TinctError(f"{file}: no class column; add one for each class beside {', '.join(RESERVED)}")
        if task == "segmentation" and "mask" not in rows[0][1]:
            raise AbsentSplitError(f"{file}: no column 'mask'; add one, or choose the multilabel task")
        rows = self._of_split(rows, split, file)
        if task == "segmentation":  # after the split, which is the same for both tasks
            rows = [(line, row) for line, row in rows if row["mask"]]
            if not rows:
                raise AbsentSplitError(f"{file}: no row of the {split} split has a mask")
        self._file, self._rows = file, rows
        super().__init__((row["path"] for _, row in rows), file.parent, f"csv:{path}", split)
        if task == "multilabel":
            self.classes = names
        else:
            self.mask_classes, self.background = ("background", *names), 0

    def _of_split(self, rows: list["Row"], split: str, file: Path) -> list["Row"]:
        """The rows of one split."""
        if rows and "split" in rows[0][1]:
            first: dict[str, str] = {}  # no picture is trained on and evaluated, too
            for line, row in rows:
                if row["split"] not in SPLITS:
                    expected = ", ".join(SPLITS)
                    raise TinctError(f"{file}, line {line}, column 'split': {row['split']!r}; expected {expected}")
                path = PurePath(row["path"]).as_posix()
                if first.setdefault(path, row["split"]) != row["split"]:
                    raise TinctError(f"{file}, line {line}: {path} is in {first[path]} and {row['split']}; choose one")
            chosen = [(line, row) for line, row in rows if row["split"] == split]
            present = {row["split"] for _, row in rows}
        else:
            paths = [PurePath(row["path"]).as_posix() for _, row in rows]
            in_val = held_out(paths, np.zeros(len(paths)))
            chosen = [row for row, val in zip(rows, in_val, strict=True) if split == ("val" if val else "train")]
            present = {"train", "val"}
            self.note = "has no column 'split': about a fifth of the rows, drawn by their paths, is val, the rest train"
        if not chosen:
            raise AbsentSplitError(
                f"{file}: no rows of the {split} split; its splits are: {', '.join(sorted(present))}"
            )
        return chosen

    def labels(self) -> NDArray[np.float32]:
        """See `LabelledSource.labels`."""
        return self._labels

    @cached_property
    def _labels(self) -> NDArray[np.float32]:
        values = [[self._value(line, name, row[name]) for name in self.classes] for line, row in self._rows]
        return require_positives(np.array(values, np.float32), self.spec, self.split)

    def _value(self, line: int, column: str, cell: str) -> float:
        if not cell:
            return np.nan
        try:
            value = float(cell)
        except ValueError:
            value = -1.0
        if value not in (0, 1):
            raise TinctError(f"{self._file}, line {line}, column {column!r}: {cell!r}; expected 0, 1 or an empty cell")
        return value

    def mask(self, index: int) -> NDArray[np.uint8]:
        """See `LabelledSource.mask`."""
        path = self.root / self._rows[index][1]["mask"]
        return checked_mask(read_indices(path), path, self.path(index), len(self.mask_classes))


Row = tuple[int, dict[str, str]]
"""The line's number in the file, and its cells by column."""


def _read(file: Path) -> list[Row]:
    """Read the file's rows; at least one."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            header = [column.strip() for column in next(reader, [])]
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise TinctError(f"{file}: {reason}; expected a comma-separated table in UTF-8") from error
    if "path" not in header:
        other = next((mark for mark in ";\t" if mark in "".join(header)), None)
        hint = f"; its columns are separated by {other!r}, save it with commas" if other else ""
        raise TinctError(f"{file}, line 1: no column 'path' among {', '.join(header) or 'none'}{hint}")
    wrong = next((column for column in header if not column or header.count(column) > 1), None)
    if wrong is not None:
        raise TinctError(f"{file}, line 1: column {wrong!r}: a column needs a name of its own")
    for line, row in rows:
        if len(row) != len(header):
            raise TinctError(f"{file}, line {line}: {len(row)} cells; expected {len(header)}, as in the header")
        if not row[header.index("path")]:
            raise TinctError(f"{file}, line {line}, column 'path': empty; expected a path to a picture")
    if not rows:
        raise TinctError(f"{file}: no rows below the header")
    return [(line, dict(zip(header, row, strict=True))) for line, row in rows]
