"""Pictures decoded and made small once, then read from one memory-mapped file."""

import json
import struct
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinct.data.base import Source
from tinct.data.parallel import each_picture
from tinct.data.transforms import shrunk
from tinct.errors import PictureError, TinctError
from tinct.files import atomic_path

__all__ = ["CachedSource"]

# The file: all pixels back to back; (height, width) of each picture, 0 x 0 for a bad one; the stamp of each picture's
# file; {index: reason} of the bad ones as JSON; and last, what is needed to find these.
_TRAILER = struct.Struct("<QQQ8s")  # bytes of pixels, number of pictures, bytes of JSON, mark
_MARK = b"tinct\0\0\2"
_LOOKED_AT, _TRIED_AGAIN = 4, 64


class CachedSource(Source):
    """A source whose pictures come from a file that holds them decoded, at most `side` pixels on their shorter side.

    The file is named by the source's fingerprint and `side`, built when it is absent (with a progress bar, in
    processes, and atomically: an interrupted build leaves nothing behind that could be taken for whole) and mapped,
    so that all processes of a machine share its pages. Where a file was written anew under its name since, it is built
    again; so it is where a few pictures, or the first bad ones, differ from the source's, since not all sources have
    files. Pictures whose files are gone stay in the cache.

    Bad pictures are remembered and raise `PictureError` with their reason. `min_side` beyond `side` cannot be served:
    choose `side` for the smallest crop that is to be sharp.

    Args:
        source: any source; it must not change its order.
        folder: where cache files live; made when absent. A picture takes about 4 `side`^2 bytes.
        side: pixels.
        processes: for building; as many as there are cores by default.
        compared: take what is there as it is, since another process has just compared it with the source.

    Raises:
        TinctError: the folder cannot be written.
    """

    def __init__(
        self, source: Source, folder: Path, side: int, processes: int | None = None, compared: bool = False
    ) -> None:
        self.source, self.spec, self.split = source, source.spec, source.split
        self.folder, self.side = folder, side
        self.path = folder / f"{source.fingerprint()}-{side}.pixels"
        if not (self._open() and (compared or self._is_current())):
            self._pixels = np.zeros(0, np.uint8)  # Windows replaces no file that is mapped
            self._build(processes)
            if not self._open():
                raise TinctError(f"{self.path}: the cache that was just written cannot be read; try another folder")

    def __len__(self) -> int:
        """The length of the source."""
        return len(self.source)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes without the pixels; these have no processes of their own to build with."""
        return CachedSource, (self.source, self.folder, self.side, 1, True)

    def name(self, index: int) -> str:
        """The name in the source."""
        return self.source.name(index)

    def picture(self, index: int, min_side: int | None = None) -> NDArray[np.uint8]:
        """Copy the picture out of the map: (H, W, 3), whatever `min_side` is."""
        height, width = (int(length) for length in self._sizes[index])
        if not height:
            raise PictureError(self._reasons[str(int(index))])
        start = int(self._starts[index])
        return np.array(self._pixels[start : start + height * width * 3]).reshape(height, width, 3)

    def stamp(self, index: int) -> tuple[int, int]:
        """That of the file which the picture was decoded from."""
        written, size = self._stamps[index].tolist()
        return written, size

    def fingerprint(self) -> str:
        """The source's: they are the same pictures."""
        return self.source.fingerprint()

    def _open(self) -> bool:
        """Map the file; False when it is absent or not whole."""
        try:
            with self.path.open("rb") as file:
                end = file.seek(0, 2) - _TRAILER.size
                file.seek(max(end, 0))
                pixels, count, text, mark = _TRAILER.unpack(file.read())
                if mark != _MARK or count != len(self.source) or pixels + 24 * count + text != end:
                    return False
                file.seek(pixels)
                self._sizes = np.frombuffer(file.read(8 * count), "<u4").reshape(count, 2)
                self._stamps = np.frombuffer(file.read(16 * count), "<i8").reshape(count, 2)
                self._reasons: dict[str, str] = json.loads(file.read(text))
        except (OSError, ValueError, struct.error):  # ValueError: of what is no JSON, or no text
            return False
        areas = self._sizes.astype(np.int64).prod(1) * 3
        if areas.sum() != pixels:
            return False
        self._starts = np.cumsum(areas) - areas
        self._pixels = np.memmap(self.path, np.uint8, "r", shape=(pixels,)) if pixels else np.zeros(0, np.uint8)
        return True

    def _is_current(self) -> bool:
        now = self._stamps_now()
        there = now.any(1)  # others are gone or out of reach: the cache may outlive the files
        if (now != self._stamps)[there].any():
            return False
        some = np.linspace(0, len(self) - 1, min(_LOOKED_AT, len(self))).astype(int).tolist()
        for index in (*some, *map(int, islice(self._reasons, _TRIED_AGAIN))):
            picture = shrunk(self.source, index, self.side)
            if isinstance(picture, str):
                continue
            if not self._sizes[index].any() or not np.array_equal(picture, self.picture(index)):
                return False
        return True

    def _stamps_now(self) -> NDArray[np.int64]:
        stamps = map(self.source.stamp, range(len(self)))
        # some disks hold times that do not fit, such as those of the year 30000
        return np.array([(written % 2**63, size) for written, size in stamps], "<i8").reshape(-1, 2)

    def _build(self, processes: int | None) -> None:
        sizes, reasons = np.zeros((len(self), 2), "<u4"), {}
        stamps = self._stamps_now()  # before they are read: what is written meanwhile shall be noticed the next time
        # The processes start first, so that they do not hold the unfinished file open.
        with (
            each_picture(self.source, partial(shrunk, side=self.side), "caching pictures", processes) as pictures,
            atomic_path(self.path) as unfinished,
            unfinished.open("wb") as file,
        ):
            for index, picture in enumerate(pictures):
                if isinstance(picture, str):
                    reasons[str(index)] = picture
                else:
                    sizes[index] = picture.shape[:2]
                    file.write(picture.data)
            pixels, text = file.tell(), json.dumps(reasons).encode()
            file.write(sizes.data)
            file.write(stamps.data)
            file.write(text + _TRAILER.pack(pixels, len(self), len(text), _MARK))
