import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from distributed import is_running, wait_until

from cmmixer_hf.data.workers import map_in_processes, worker_context


def square(number: int) -> int:
    return number * number


def square_or_die(number: int, deadly: int, how: str) -> int:
    if number != deadly:
        return square(number)
    if how == "sleep":
        time.sleep(1000)
    os.kill(os.getpid(), getattr(signal, how))
    return 0


def fail(number: int) -> int:
    raise ValueError(f"a bug at {number}")


def pid_after_a_note(folder: Path) -> int:
    (folder / str(os.getpid())).touch()
    time.sleep(1000)
    return 0


def slower_at_first(number: int) -> int:
    time.sleep(0.2 if number == 0 else 0)
    return number


@pytest.mark.parametrize("num_workers", [0, 1, 2, 5])
def test_results_come_in_order(num_workers):
    made = map_in_processes(square, range(20), num_workers=num_workers, died=lambda item, reason: -1)
    assert list(made) == [number * number for number in range(20)]


def test_a_slow_item_holds_nobody_up_but_the_order():
    made = map_in_processes(slower_at_first, range(12), num_workers=2, died=lambda item, reason: -1)
    assert list(made) == list(range(12))


@pytest.mark.parametrize("how", ["SIGSEGV", "SIGKILL", "SIGABRT"])
@pytest.mark.parametrize("num_workers", [1, 3])
def test_a_process_that_dies_costs_its_item_alone(how, num_workers):
    function = partial(square_or_die, deadly=5, how=how)
    made = list(
        map_in_processes(function, range(10), num_workers=num_workers, died=lambda item, reason: (item, reason))
    )
    item, reason = made.pop(5)
    assert item == 5
    assert how in reason
    assert made == [number * number for number in range(10) if number != 5]


def test_an_item_that_takes_too_long_is_given_up():
    function = partial(square_or_die, deadly=3, how="sleep")
    made = list(
        map_in_processes(function, range(6), num_workers=2, died=lambda item, reason: reason, seconds_per_item=5)
    )
    assert made == [0, 1, 4, "took more than 5 s", 16, 25]


def test_a_bug_is_no_result():
    with pytest.raises(RuntimeError, match="traceback is printed above"):
        list(map_in_processes(fail, range(3), num_workers=2, died=lambda item, reason: -1))
    with pytest.raises(ValueError, match="a bug at 0"):
        list(map_in_processes(fail, range(3), num_workers=0, died=lambda item, reason: -1))


def test_items_are_taken_only_a_little_ahead():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    made = map_in_processes(square, items(), num_workers=2, died=lambda item, reason: -1)
    assert next(made) == 0
    made.close()
    assert len(taken) < 20


def run_and_wait(folder: Path) -> None:
    list(map_in_processes(pid_after_a_note, [folder] * 2, num_workers=2, died=lambda item, reason: 0))


def test_workers_end_with_a_parent_that_is_killed_while_they_compute(tmp_path):
    parent = worker_context().Process(target=run_and_wait, args=(tmp_path,))
    parent.start()
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    parent.kill()
    parent.join()
    for note in tmp_path.iterdir():
        wait_until(lambda note=note: not is_running(int(note.name)))


def test_stopping_early_leaves_no_process(tmp_path):
    made = map_in_processes(
        pid_after_a_note, [tmp_path], num_workers=1, died=lambda item, reason: -1, seconds_per_item=1
    )
    assert next(made) == -1
    made.close()
    for note in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(note.name), 0)
