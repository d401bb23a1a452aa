"""Reading in threads, ahead of whoever uses what is read: decoding and resizing let other threads run."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["READERS", "read_ahead"]

Key = TypeVar("Key")
Read = TypeVar("Read")

READERS = min(8, getattr(os, "process_cpu_count", os.cpu_count)() or 1)  # the former, from Python 3.13, heeds affinity
"""Threads that read, where nobody says."""


def read_ahead(work: Callable[[Key], Read], keys: Iterable[Key], ahead: int, threads: int = READERS) -> Generator[Read]:
    """Give `work(key)` of every key, in order; what it raises is raised in its place.

    Args:
        work: is called in any of the threads.
        keys: taken when they are begun.
        ahead: how many are begun before the first of them is taken, at least 1; so many results are held at most.
        threads: how many.
    """
    coming = iter(keys)
    with ThreadPoolExecutor(threads) as pool:
        try:
            begun = deque(pool.submit(work, key) for key in islice(coming, ahead))
            while begun:
                done = begun.popleft().result()
                begun.extend(pool.submit(work, key) for key in islice(coming, 1))
                yield done
        finally:
            pool.shutdown(cancel_futures=True)
