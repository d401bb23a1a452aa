"""The same work on every picture of a source, spread over processes."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from tinct.data.ahead import CORES, in_order
from tinct.data.base import Source
from tinct.data.decode import hide_warnings
from tinct.errors import TinctError
from tinct.screen import open_console, progress_bar

__all__ = ["begin_worker", "each_picture"]

T = TypeVar("T")

_CHUNK = 32
_MOST = 61 if sys.platform == "win32" else 1 << 16  # processes; Windows cannot wait for more
_task: tuple[Source, Callable[[Source, int], Any]]  # set once in each worker, so that a large source travels once


@contextmanager
def each_picture(
    source: Source, work: Callable[[Source, int], T], title: str, processes: int | None = None
) -> Iterator[Iterable[T]]:
    """Give `work(source, index)` for every picture, in order, under a progress bar on standard error.

    Only a few chunks are ever under way, so memory stays bounded however slowly the results are taken.

    Args:
        source: handed to every process once.
        work: a function of a module (or a partial of one); it catches the `PictureError`s that it expects.
        title: what the progress bar says.
        processes: as many as there are cores by default; with one, the work is done here.

    Raises:
        TinctError: a process was killed, most likely for want of memory.
    """
    total = len(source)
    starts = range(0, total, _CHUNK)
    processes = min(processes or CORES, len(starts), _MOST)
    progress = progress_bar(open_console(stderr=True), transient=True)
    if processes <= 1:
        with progress:
            yield progress.track((work(source, index) for index in range(total)), total, description=title)
        return
    with ProcessPoolExecutor(processes, initializer=_begin, initargs=(source, work)) as pool:
        chunks = in_order(pool, _chunk, starts, ahead=2 * processes)
        try:
            with progress:  # its thread starts after the processes were forked
                yield progress.track(chain.from_iterable(chunks), total, description=title)
        except BrokenProcessPool as error:
            raise TinctError(
                f"{title}: a worker process was killed, most likely for want of memory; free some (or a script has no "
                "`if __name__ == '__main__':`, which such processes need on macOS, on Windows and from Python 3.14 on)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def begin_worker() -> None:
    """Let this process be a quiet part of the one that made it, and end with it, also where that was killed.

    What SIGTERM does is left to the caller.
    """
    gc.freeze()  # what a forked parent left behind is not freed here: it may wait for threads that only the parent has
    hide_warnings()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops its workers
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(process: BaseProcess) -> None:
    process.join()
    os._exit(1)


def _begin(source: Source, work: Callable[[Source, int], Any]) -> None:
    global _task
    _task = (source, work)
    begin_worker()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the parent's way, which would print where it was


def _chunk(start: int) -> list[Any]:
    source, work = _task
    return [work(source, index) for index in range(start, min(start + _CHUNK, len(source)))]
