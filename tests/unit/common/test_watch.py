"""The container beside a step's: real processes, ended as the kubelet ends them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.common.failed import TRIES, Failure, read_failure
from components.common.runs import JOB
from components.common.store import open_store
from components.common.watch import MARK, MEMORY_LIMIT

RUN = "nightly"


@pytest.fixture
def pod(tmp_path: Path) -> Iterator["Pod"]:
    made = Pod(tmp_path)
    yield made
    made.end()


class Pod:
    """What the containers of one pod share: /tmp, the settings and the Job."""

    def __init__(self, folder: Path) -> None:
        self.tmp, self.store = folder / "tmp", str(folder / "store")
        self.tmp.mkdir()
        self.env = {**os.environ, "TMPDIR": str(self.tmp), JOB: "i1", TRIES: "2", MEMORY_LIMIT: "3072"}
        self.started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str) -> int:
        return self.start(*arguments).wait(timeout=60)

    def start(self, *arguments: str, store: str | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipelines.cli", "step", "ingest", "--run", RUN]
        command += ["--store", store or self.store, "--set", "ingest.source=nowhere", *arguments]
        process = subprocess.Popen(command, env=self.env, stderr=subprocess.PIPE, text=True)
        self.started.append(process)
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
        # Here the step's container begins, and the kernel kills it.
        assert _terminate(watch) == 0
        word = pod.word()
        assert word is not None
        assert word.what == "ingest was killed without a word, most likely out of memory (limit 3072 MiB)"
        assert (word.tries, word.final) == (tries, tries == 2)


def test_a_step_that_has_said_why_it_failed_has_the_last_word(pod: Pod) -> None:
    watch = pod.watch()
    assert pod.run("--wait-for", "store") == 0
    assert (pod.tmp / MARK).is_file()
    assert pod.run() == 2
    before = pod.word()
    assert before is not None
    assert before.tries == 1
    assert _terminate(watch) == 0
    assert pod.word() == before


def test_a_step_that_never_began_was_not_killed(pod: Pod) -> None:
    """Deleted while it waited, or its wait failed, which has said so itself."""
    (pod.tmp / MARK).touch()  # a pod may have two that wait, one after the other
    watch = pod.watch()
    waits = pod.start("--wait-for", "preprocess")
    end = time.monotonic() + 30
    while (pod.tmp / MARK).exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    waits.kill()
    assert _terminate(watch) == 0
    assert pod.word() is None


def test_it_ends_well_whatever_happens_to_it(pod: Pod, tmp_path: Path) -> None:
    """The Job's failure policy would take its status for the step's."""
    (tmp_path / "file").write_text("in the way")
    (pod.tmp / MARK).touch()
    watch = pod.watch(store=str(tmp_path / "file" / "store"))
    assert _terminate(watch) == 0
    assert watch.stderr is not None
    assert "nobody hears" in watch.stderr.read()
