"""The container beside a step's: real processes, ended as the kubelet ends them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.common.failed import TRIES, Failure, read_failure
from components.common.full_disk import DISK_LIMIT
from components.common.runs import JOB
from components.common.store import open_store
from components.common.watch import FULL_DISK, MARK, MEMORY_LIMIT, WAIT

RUN = "nightly"


@pytest.fixture
def pod(tmp_path: Path) -> Iterator["Pod"]:
    made = Pod(tmp_path)
    yield made
    made.end()


class Pod:
    """What the containers of one pod share: /tmp, the settings and the Job."""

    def __init__(self, folder: Path) -> None:
        self.mark, self.store = folder / "tmp" / "mark", str(folder / "store")
        self.mark.parent.mkdir()
        self.env = {**os.environ, JOB: "i1", TRIES: "2", MARK: str(self.mark), MEMORY_LIMIT: "3072"}
        self.env |= {DISK_LIMIT: str(10 << 30), "TMPDIR": str(folder / "not-made-yet")}
        self.silent = socket.create_server(("127.0.0.1", 0))
        self.env |= {"CONVEYOR_S3_ENDPOINT": f"http://127.0.0.1:{self.silent.getsockname()[1]}"}
        self.env |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        self.started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str) -> int:
        return self.start(*arguments).wait(timeout=60)

    def start(self, *arguments: str, store: str | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipelines.cli", "step", "ingest", "--run", RUN]
        command += ["--store", store or self.store, "--set", "ingest.source=nowhere", *arguments]
        process = subprocess.Popen(command, env=self.env, stderr=subprocess.PIPE, text=True)
        self.started.append(process)
        return process

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Has left its mark, and goes on until its source answers, which never does."""
        process = self.start(*arguments, "--set", "ingest.source=s3://silent/images")
        end = time.monotonic() + 30
        while not (self.mark.exists() and self.mark.stat().st_size):
            assert time.monotonic() < end, "it leaves no mark"
            assert process.poll() is None, "it has ended before the mark was seen"
            time.sleep(0.001)
        return process

    def watch(self, store: str | None = None) -> subprocess.Popen[str]:
        """Asleep until it is ended."""
        process = self.start("--watch", store=store)
        end, asleep = time.monotonic() + 30, 0
        while asleep < 10:  # in a row: nothing that it still reads takes this long
            assert time.monotonic() < end, "it does not wait"
            asleep = asleep + 1 if _status(process)["State"].startswith("S") else 0
            time.sleep(0.02)
        return process

    def word(self) -> Failure | None:
        return read_failure(open_store(self.store), RUN, "ingest")

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()
        self.silent.close()


def _status(process: subprocess.Popen[str]) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _rss_mib(process: subprocess.Popen[str]) -> float:
    return int(_status(process)["VmRSS"].split()[0]) / 1024


def _terminate(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=60)


def test_a_step_that_was_killed_has_failed_once_more_and_the_last_time_for_good(pod: Pod) -> None:
    for tries in (1, 2):
        watch = pod.watch()
        assert pod.run("--wait-for", "store") == 0
        assert _rss_mib(watch) < 24, "it is there as long as the step, and reserves 32 MiB"
        pod.begin().kill()
        assert _terminate(watch) == 0
        word = pod.word()
        assert word is not None
        assert word.what == "ingest was killed without a word, most likely out of memory (limit 3072 MiB)"
        assert (word.tries, word.final) == (tries, tries == 2)


def test_a_step_that_has_said_why_it_failed_has_the_last_word(pod: Pod) -> None:
    watch = pod.watch()
    assert pod.run("--wait-for", "store") == 0
    assert pod.run() == 2
    before = pod.word()
    assert before is not None
    assert before.tries == 1
    assert _terminate(watch) == 0
    assert pod.word() == before


@pytest.mark.parametrize("arguments", [(), ("--wait-for", "preprocess")])
@pytest.mark.parametrize("after_s", [0, 0.2, 3])
def test_a_step_that_is_interrupted_while_it_starts_or_waits_was_not_killed(
    pod: Pod, arguments: tuple[str, ...], after_s: float
) -> None:
    """Its node is drained: its Job makes another pod, so those that wait for it must go on doing so."""
    watch = pod.watch()
    process = pod.begin(*arguments)
    time.sleep(after_s)
    assert _terminate(process) == 130
    assert _terminate(watch) == 0
    assert pod.word() is None


def test_a_step_between_two_waits_was_not_killed(pod: Pod) -> None:
    watch = pod.watch()
    assert pod.run("--wait-for", "store") == 0
    assert _terminate(watch) == 0
    assert pod.word() is None


def test_one_that_waits_and_is_killed_has_cost_its_job_a_try_too(pod: Pod) -> None:
    watch = pod.watch()
    waits = pod.begin("--wait-for", "preprocess")
    assert pod.mark.read_text() == WAIT
    waits.kill()
    assert _terminate(watch) == 0
    word = pod.word()
    assert word is not None
    assert word.what == "ingest was killed without a word while it waited, most likely out of memory"
    assert (word.tries, word.final) == (1, False)


def test_a_step_that_was_evicted_for_its_disk_and_killed_meanwhile_has_said_as_much(pod: Pod) -> None:
    watch = pod.watch()
    pod.mark.write_text(FULL_DISK)
    assert _terminate(watch) == 0
    word = pod.word()
    assert word is not None
    assert word.what == "ingest was evicted: its /tmp was full (limit 10240 MiB)"
    assert word.todo == "raise kubernetes.resources.ingest.disk"


def test_no_other_command_stands_by(pod: Pod) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "runs", "--watch"]
    ended = subprocess.run(command, env=pod.env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "--watch" in ended.stderr


def test_it_ends_well_whatever_happens_to_it(pod: Pod, tmp_path: Path) -> None:
    """The Job's failure policy would take its status for the step's."""
    (tmp_path / "file").write_text("in the way")
    pod.mark.touch()
    watch = pod.watch(store=str(tmp_path / "file" / "store"))
    assert _terminate(watch) == 0
    assert watch.stderr is not None
    assert "nobody hears" in watch.stderr.read()
