"""Batches made ahead: the same batches in the same order, errors where they belong, and no thread left behind."""

import threading

import pytest

from portable_nn.train.ahead import TRIALS, Ahead


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, TRIALS, 20])
def test_order_is_that_of_the_plain_loop(depth, count):
    with Ahead(iter(range(count)), depth, worth=0.0) as ahead:
        assert list(ahead) == list(range(count))
        assert list(ahead) == []
        assert ahead.threaded is (depth > 0 and count >= TRIALS)
        assert ahead.waited > 0


def test_an_error_comes_where_its_batch_would_have_come():
    def batches():
        yield from range(TRIALS + 1)
        raise OSError("damaged image 7")

    with Ahead(batches(), 2, worth=0.0) as ahead:
        assert [next(ahead) for _ in range(TRIALS + 1)] == list(range(TRIALS + 1))
        with pytest.raises(OSError, match="damaged image 7"):
            next(ahead)


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    with Ahead(iter(range(1000)), 2, worth=0.0) as ahead:
        for _ in range(TRIALS + 2):
            next(ahead)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_quick_batches_get_no_thread():
    with Ahead(iter(range(100)), 2, worth=60.0) as ahead:
        assert list(ahead) == list(range(100))
        assert not ahead.threaded
