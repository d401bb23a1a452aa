"""Rows of numbers with a name each, gathered a batch at a time on disk, then made into .npy, .csv or .parquet."""

import csv
import importlib
import json
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinct.errors import TinctError
from tinct.files import atomic_path, write_json

__all__ = ["FORMATS", "Row", "Store"]

FORMATS = (".npy", ".csv", ".parquet")
ROWS = 4096
"""Rows that are turned into the final format at a time."""
NAMED = 1000
"""How many skipped pictures OUT.json names."""
ESCAPED = str.maketrans({"\n": "\\n", "\r": "\\r"})
"""What a name may hold that would end its line where it is read."""
Row = NDArray[np.float32]


class Store:
    """Rows on their way to a file: OUT.partial/{how.json, rows.f32, names.jsonl}, a line for each picture."""

    def __init__(self, out: Path, width: int, batch: int, total: int) -> None:
        """Point at what belongs to `out`: rows of `width`, `batch` pictures at a time, `total` in all."""
        self.out, self.width, self.batch, self.total = out, width, batch, total
        self.folder = self.partial(out)
        self.vectors, self.lines = self.folder / "rows.f32", self.folder / "names.jsonl"

    @staticmethod
    def partial(out: Path) -> Path:
        """The folder of what is on its way to `out`."""
        return out.with_name(f"{out.name}.partial")

    def open(self, how: dict[str, Any]) -> int:
        """Begin, or cut off what was not finished; the number of pictures done.

        Raises:
            TinctError: the folder belongs to other pictures or settings, or cannot be written.
        """
        now = json.loads(json.dumps(how))  # as it is read back
        try:
            before = json.loads((self.folder / "how.json").read_bytes())
        except (FileNotFoundError, ValueError):  # ValueError: no JSON, or no text
            before = None
        if before not in (None, now):
            differing = (key for key in now if before.get(key) != now[key])
            changed = next(differing, "version of tinct")  # which knew a further setting
            raise TinctError(
                f"{self.folder} was begun with another {changed}; remove it, call as before, or choose another out"
            )
        if before is None:
            write_json(self.folder / "how.json", how)
        try:
            for path in (self.vectors, self.lines):
                path.open("ab").close()
            done, bytes_of_rows, bytes_of_lines = self._whole()
            for path, length in ((self.vectors, bytes_of_rows), (self.lines, bytes_of_lines)):
                with path.open("r+b") as file:
                    file.truncate(length)
        except OSError as error:
            raise TinctError(f"cannot write {self.folder}: {error.strerror}; choose another out") from error
        return done

    def _whole(self) -> tuple[int, int, int]:
        """Pictures whose whole batch is on disk, and the bytes that their rows and lines take."""
        there = self.vectors.stat().st_size
        whole, place, rows = (0, 0, 0), 0, 0
        with self.lines.open("rb") as file:
            for done, line in enumerate(file, start=1):
                place, rows = place + len(line), rows + (b"\t" not in line)
                used = rows * self.width * 4
                if not line.endswith(b"\n") or used > there:
                    break
                if done % self.batch == 0 or done == self.total:
                    whole = done, used, place
        return whole

    def append(self, names: list[str], squares: list[NDArray[np.uint8] | str], rows: Row) -> None:
        """Add a batch: a row for every picture that is one, and a line for each: its name, and why it was skipped."""
        good = [not isinstance(square, str) for square in squares]
        lines = [
            json.dumps(name) + (f"\t{json.dumps(square)}" if isinstance(square, str) else "")
            for name, square in zip(names, squares, strict=True)
        ]
        try:
            for path, content in (
                (self.vectors, np.ascontiguousarray(rows[good], "<f4").tobytes()),
                (self.lines, "".join(f"{line}\n" for line in lines).encode()),
            ):
                with path.open("ab") as file:
                    file.write(content)
        except OSError as error:
            raise TinctError(f"cannot write {self.folder}: {error.strerror}; free some space and call again") from error

    def finish(self, how: dict[str, Any]) -> dict[str, Any]:
        """Make the result and remove the folder; what OUT.json says, `how` with what was made and what was skipped."""
        count = self.vectors.stat().st_size // (4 * self.width)
        write = {".npy": self._npy, ".csv": self._csv, ".parquet": self._parquet}[self.out.suffix]
        with atomic_path(self.out) as unfinished:
            write(unfinished, count)
        skipped = [json.loads(part[1]) for part in self._parts() if len(part) > 1]
        made = {**how, "rows": count, "total": self.total, "skipped": skipped[:NAMED]}
        write_json(self.out.with_name(f"{self.out.name}.json"), made)
        shutil.rmtree(self.folder)
        return made

    def _parts(self) -> Iterator[list[bytes]]:
        with self.lines.open("rb") as file:
            yield from (line.rstrip(b"\n").split(b"\t") for line in file)

    def _chunks(self) -> Iterator[tuple[list[str], Row]]:
        """Names and rows of the pictures that have one, `ROWS` at a time."""
        names = (json.loads(part[0]) for part in self._parts() if len(part) == 1)
        with self.vectors.open("rb") as file:
            while part := list(islice(names, ROWS)):
                content = file.read(len(part) * self.width * 4)
                yield part, np.frombuffer(content, "<f4").reshape(len(part), self.width)

    def _npy(self, path: Path, count: int) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, self.width)}
        with path.open("wb") as file, self.vectors.open("rb") as rows:
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(rows, file)
        with (
            atomic_path(self.out.with_name(f"{self.out.name}.txt")) as unfinished,
            unfinished.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as text,
        ):
            for names, _ in self._chunks():
                text.writelines(name.translate(ESCAPED) + "\n" for name in names)

    def _csv(self, path: Path, _: int) -> None:
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["path", *(f"f{column}" for column in range(self.width))])
            for names, rows in self._chunks():
                table.writerows(
                    [name, *(f"{value:.9g}" for value in row)] for name, row in zip(names, rows, strict=True)
                )

    def _parquet(self, path: Path, _: int) -> None:
        pa: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
        schema = pa.schema([("path", pa.string()), ("vector", pa.list_(pa.float32(), self.width))])
        with parquet.ParquetWriter(path, schema) as file:
            for names, rows in self._chunks():
                clean = [name.encode(errors="surrogateescape").decode(errors="replace") for name in names]
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), self.width)
                file.write_table(pa.table([pa.array(clean), vectors], schema))
