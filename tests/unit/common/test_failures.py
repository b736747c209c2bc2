"""The edge of every command: errors as a person sees them, signals, and no child left."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
import weakref

import psutil
import pytest

from components.common.errors import ConveyorError, InputError
from components.common.failures import InterruptedByUser, explain, graceful, print_error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (InputError("no"), 2, "no"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space", "/x"), 3, "disk is full"),
        (PermissionError(errno.EACCES, "denied", "/x"), 3, "permission"),
        (MemoryError(), 3, "memory"),
        (ModuleNotFoundError("No module named 'kfp'", name="kfp"), 3, "kfp is not installed"),
        (ValueError(""), 3, "ValueError"),
        (RuntimeError("first\nsecond"), 3, "RuntimeError: first"),
    ],
)
def test_every_error_has_a_status_and_words(error: BaseException, status: int, words: str) -> None:
    explained = explain(error)
    assert explained.exit_code == status
    assert words in str(explained)
    assert "second" not in str(explained)


def test_an_error_is_printed_with_its_details() -> None:
    stream = io.StringIO()
    print_error(InputError("wrong", where="c.yaml:1:2", expected="3", found="4", todo="write 3"), stream)
    assert (
        stream.getvalue()
        == "error: wrong\n  where: c.yaml:1:2\n  expected: 3\n  found: 4\n  to do: write 3\n"
    )


def test_an_interruption_is_no_error() -> None:
    stream = io.StringIO()
    print_error(InterruptedByUser("interrupted in train; nothing is lost", todo="again"), stream)
    assert stream.getvalue() == "interrupted in train; nothing is lost\n  to do: again\n"


def test_a_container_gets_one_json_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_LOG_FORMAT", "json")
    stream = io.StringIO()
    print_error(InputError("wrong", where="here"), stream)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line) | {
        "level": "error",
        "message": "wrong",
        "where": "here",
        "exit_code": 2,
    } == json.loads(line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_block_and_its_children(number: signal.Signals) -> None:
    stubborn = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    children: list[subprocess.Popen[bytes]] = []

    def work() -> None:
        with graceful():
            child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
            children.append(child)
            assert child.stdout is not None
            child.stdout.readline()
            os.kill(os.getpid(), number)
            signal.pause()

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(number) == before
    (child,) = children
    child.wait(timeout=10)
    assert not psutil.pid_exists(child.pid)
    assert child.stdout is not None
    child.stdout.close()


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with graceful():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interruption_inside_exec_still_ends_with_our_status() -> None:
    code = (
        "from components.common.failures import leave\n"
        "try:\n    exec('raise KeyboardInterrupt')\nexcept KeyboardInterrupt:\n    leave(130)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 130


def test_a_block_that_ends_well_leaves_its_children_alone() -> None:
    with graceful():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    assert child.poll() is None
    child.kill()
    child.wait()


def test_an_error_survives_the_way_between_processes() -> None:
    import pickle

    data = pickle.dumps(InputError("wrong", where="here", todo="mend"))
    error = pickle.loads(data)  # noqa: S301 - our own
    assert isinstance(error, ConveyorError)
    assert (error.what, error.where, error.todo, error.exit_code) == ("wrong", "here", "mend", 2)


def test_an_interruption_that_python_drops_comes_again(capfd: pytest.CaptureFixture[str]) -> None:
    """What is raised in the callback of a weak reference is lost, and imports are full of these."""

    class Thing:
        pass

    def callback(_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def interrupted_in_a_callback() -> None:
        end = time.monotonic() + 60
        thing = Thing()
        kept = weakref.ref(thing, callback)
        del thing
        while time.monotonic() < end:
            assert kept() is None

    before = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), graceful():
        interrupted_in_a_callback()
    assert (signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before
    assert "Traceback" not in capfd.readouterr().err
