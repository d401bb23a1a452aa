import threading
import time

import pytest

from tinct.data.ahead import read_ahead


def test_results_come_in_order_whichever_is_done_first():
    def work(key: int) -> int:
        time.sleep(0.002 * (5 - key % 5))
        return key * key

    assert list(read_ahead(work, range(40), ahead=10, threads=4)) == [key * key for key in range(40)]


def test_several_are_read_at_once():
    together = threading.Barrier(3, timeout=30)

    def work(key: int) -> int:
        together.wait()
        return key

    assert list(read_ahead(work, range(6), ahead=3, threads=3)) == list(range(6))


def test_no_more_are_begun_than_asked_for():
    begun = []
    reading = read_ahead(lambda key: begun.append(key) or key, iter(range(100)), ahead=4, threads=2)
    assert begun == []
    assert next(reading) == 0
    assert next(reading) == 1
    reading.close()
    assert set(begun) <= set(range(6))


def test_an_error_is_raised_in_its_place():
    reading = read_ahead(lambda key: 12 // key, [3, 2, 0, 1], ahead=4, threads=2)
    assert [next(reading), next(reading)] == [4, 6]
    with pytest.raises(ZeroDivisionError):
        next(reading)


def test_whoever_stops_taking_leaves_no_thread_behind():
    before = threading.active_count()
    reading = read_ahead(lambda key: time.sleep(0.01), range(1000), ahead=500, threads=3)
    next(reading)
    assert threading.active_count() > before
    reading.close()
    assert threading.active_count() == before
