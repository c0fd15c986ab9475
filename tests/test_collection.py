"""Cycles are looked for after a compilation, as before it."""

import gc
import threading

import pytest

from ffebm.collection import collecting_later


def test_nothing_is_collected_inside_and_all_is_as_before_afterwards() -> None:
    with collecting_later():
        assert not gc.isenabled()
        with collecting_later():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collecting_later():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_error_ends_it() -> None:
    with pytest.raises(ValueError, match=r"^wrong$"), collecting_later():
        raise ValueError("wrong")
    assert gc.isenabled()


def test_of_two_threads_the_last_one_out_ends_it() -> None:
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with collecting_later():
            entered.set()
            leave.wait()

    other = threading.Thread(target=stay)
    with collecting_later():
        other.start()
        entered.wait()
    assert not gc.isenabled()
    leave.set()
    other.join()
    assert gc.isenabled()
