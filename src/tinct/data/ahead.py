"""Work done in pools, ahead of whoever takes its results; reading in threads, as decoding lets other threads run."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["CORES", "READERS", "in_order", "read_ahead"]

Key = TypeVar("Key")
Read = TypeVar("Read")

CORES = getattr(os, "process_cpu_count", os.cpu_count)() or 1  # the former, from Python 3.13 on, heeds affinity
READERS = min(8, CORES)
"""Threads that read, where nobody says."""


def read_ahead(work: Callable[[Key], Read], keys: Iterable[Key], ahead: int, threads: int = READERS) -> Generator[Read]:
    """Give `work(key)` of every key, in order; what it raises is raised in its place.

    Args:
        work: is called in any of the threads.
        keys: taken when they are begun.
        ahead: how many are begun before the first of them is taken, at least 1; so many results are held at most.
        threads: how many.
    """
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from in_order(pool, work, keys, ahead)
        finally:
            pool.shutdown(cancel_futures=True)


def in_order(pool: Executor, work: Callable[[Key], Read], keys: Iterable[Key], ahead: int) -> Iterator[Read]:
    """What `read_ahead` gives, of a pool of any kind, in which the first keys are begun at once."""
    coming = iter(keys)
    begun = deque(pool.submit(work, key) for key in islice(coming, ahead))

    def results() -> Iterator[Read]:
        while begun:
            done = begun.popleft().result()
            begun.extend(pool.submit(work, key) for key in islice(coming, 1))
            yield done

    return results()
