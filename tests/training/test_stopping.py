import ctypes
import os
import signal
import threading
import time

import pytest
from distributed import CONTEXT, run_alone, wait_for
from training_runs import final_state, make_settings, run_training, untimed

from cmmixer_hf.training.stopping import StopSignals, TrainingStoppedError


def test_a_signal_waits_and_the_old_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopSignals() as stop:
        assert not stop.received
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_it_is_answered_while_one_call_computes(capfd):
    """As a backward pass of minutes does, this call leaves Python no instant to handle a signal; an answer ends it."""
    (reading, writing), answers = os.pipe(), []

    def ask():
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(6000):
            answers.append(capfd.readouterr().err)
            if "the same command goes on" in answers[-1]:
                break
            time.sleep(0.01)
        os.write(writing, b".")

    asking = threading.Thread(target=ask)
    with StopSignals() as stop:
        signal.siginterrupt(signal.SIGINT, False)
        asking.start()
        assert ctypes.CDLL(None).read(reading, ctypes.create_string_buffer(1), 1) == 1
        asking.join()
        assert stop.received == signal.SIGINT
    assert "Ctrl-C again stops at once" in answers[-1]


def test_another_thread_listens_to_nothing():
    seen = []

    def listen():
        with StopSignals() as stop:
            seen.append(stop.received)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [0]


def train_and_say(clips, folder, connection, num_workers=0):
    """A training that tells when it has taken its third step; its processes are a group of their own."""
    os.setpgrp()
    from cmmixer_hf.training.log import TrainingLog

    finish = TrainingLog.finish_step

    def tell(log, *arguments):
        finish(log, *arguments)
        if log.step == 3:
            connection.send("three")
            connection.recv()

    TrainingLog.finish_step = tell
    run_training(clips, folder, num_workers=num_workers)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_stop_saves_exits_and_goes_on(number, code, prepared_folder, tmp_path):
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=train_and_say, args=(prepared_folder, tmp_path / "run", there))
    process.start()
    assert here.recv() == "three"
    os.kill(process.pid, number)
    here.send("go on")
    assert wait_for(process) == code
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    history = run_training(prepared_folder, tmp_path / "run")
    assert untimed(history) == untimed(run_training(prepared_folder, tmp_path / "whole"))
    assert final_state(tmp_path / "run")[2] == final_state(tmp_path / "whole")[2]


def test_a_signal_to_a_whole_job_stops_it_as_cleanly(prepared_folder, tmp_path):
    """A scheduler's reaches the processes that read clips too; the training process must not find them dead."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=train_and_say, args=(prepared_folder, tmp_path / "run", there, 2))
    process.start()
    assert here.recv() == "three"
    os.killpg(process.pid, signal.SIGTERM)
    time.sleep(0.5)  # for a worker that the signal ends to be missed
    here.send("go on")
    assert wait_for(process) == 143
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]


def stop_at_the_end(clips, folder):
    """The signal comes while the last step is under way."""

    def evaluate(model):
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    from training_runs import EXTRACTOR, make_model

    from cmmixer_hf.data.prepared_clips import load_prepared
    from cmmixer_hf.training.loop import train

    settings = make_settings(folder, evaluation_epochs=4)
    train(make_model(), load_prepared(clips), EXTRACTOR, settings, evaluate=evaluate, progress=False)


def test_a_signal_in_the_last_step_is_not_lost(prepared_folder, tmp_path):
    assert run_alone(stop_at_the_end, prepared_folder, tmp_path / "run") == 143
    assert (tmp_path / "run" / "config.json").exists()


def test_it_ends_a_program_unless_it_is_caught():
    with pytest.raises(SystemExit) as stopped:
        raise TrainingStoppedError(signal.SIGTERM)
    assert stopped.value.code == 143
