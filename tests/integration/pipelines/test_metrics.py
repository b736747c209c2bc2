"""`conveyor metrics` as a process: what Prometheus reads from it, and how it ends."""

import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.common.canonical import canonical_json
from components.common.store import open_store
from pipelines.attempts import Attempt, Basis, Retraining, swap_retraining
from pipelines.exporter.facts import Looker
from support.s3_servers import S3Server
from support.small_pipeline import ROOT, SMALL, command, conveyor, environment, write_config
from support.snippets import snippets

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def parse(text: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Sample name → labels → value. Prometheus's own parser must take every line."""
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation.endswith("."), family.name
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert labels not in found.setdefault(sample.name, {}), "a sample stands twice"
            found[sample.name][labels] = sample.value
    return found


def value(metrics: dict[str, Any], name: str, **labels: str) -> float:
    return float(metrics[name][frozenset(labels.items())])


def write_result(folder: Path, run: str, *, ended: str, **result: Any) -> None:
    """A run's result as the runner writes it."""
    whole: dict[str, Any] = {
        "run": run,
        "store": "s",
        "state": "succeeded",
        "seconds": 2.5,
        "steps": {},
        "ingest": None,
        "metrics": None,
        "model": None,
        "compressed": None,
        "promoted": False,
        "report": None,
        **result,
    }
    document: dict[str, Any] = {"version": 1, "ended": ended, "overhead_seconds": 0.1, "result": whole}
    open_store(str(folder)).put(f"runs/{run}/result.json", canonical_json(document))


@contextmanager
def serving(*arguments: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running exporter and its URL."""
    process = subprocess.Popen(
        command(["metrics", "--port", "0", "--address", "127.0.0.1", "--refresh", "0.2", *arguments]),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if match := re.search(r"on (http://\S+)/metrics", line):
                yield process, match[1]
                break
        else:
            pytest.fail("it did not begin to listen")
    finally:
        process.kill()
        process.communicate()


def get(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def metrics_of(url: str) -> dict[str, Any]:
    status, kind, text = get(f"{url}/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    return parse(text)


def test_an_empty_store(tmp_path: Path) -> None:
    ended = conveyor("metrics", "--store", "store", "--once", cwd=tmp_path)
    assert ended.status == 0, ended.err
    found = parse(ended.out)
    assert value(found, "conveyor_runs") == 0
    assert value(found, "conveyor_store_up") == 1
    assert not (tmp_path / "store").exists()


def test_a_real_retraining(tmp_path: Path) -> None:
    from support.images import make_image_folder

    make_image_folder(tmp_path / "images", classes=2, per_class=20, size=(16, 16), fmt="png")
    (tmp_path / "images" / "class_0" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    write_config(
        tmp_path / "small.yaml", {**SMALL, "ingest": {"num_workers": 1, "max_quarantined_share": 0.5}}
    )
    ran = conveyor(
        *("retrain", "-f", "small.yaml", "--source", "images", "--store", "store", "--json"), cwd=tmp_path
    )
    assert ran.status == 0, ran.err
    result = ran.json()
    found = parse(conveyor("metrics", "--store", "store", "--once", cwd=tmp_path).out)
    assert (
        value(found, "conveyor_last_run_info", run=result["run"], state="succeeded", decision="promoted") == 1
    )
    assert value(found, "conveyor_last_run_success") == 1
    assert value(found, "conveyor_recent_runs", state="succeeded") == 1
    assert value(found, "conveyor_ingest_images", status="accepted") == 40
    assert value(found, "conveyor_ingest_images", status="quarantined") == 1
    (reason,) = result["ingest"]["reasons"]
    assert value(found, "conveyor_ingest_quarantined_images", reason=reason) == 1
    for step, told in result["steps"].items():
        assert value(found, "conveyor_last_run_step_duration_seconds", step=step) == told["seconds"]
        assert value(found, "conveyor_last_run_step_state", step=step, state="done") == 1
    assert value(found, "conveyor_accuracy_ratio") == result["metrics"]["accuracy"]
    chosen = result["compressed"]["chosen"]
    assert value(found, "conveyor_compressed_size_bytes") == chosen["size_bytes"]
    assert value(found, "conveyor_compressed_latency_seconds") == pytest.approx(chosen["latency_ms"] / 1000)
    assert value(found, "conveyor_champion_version", registry="images") == 1
    assert value(found, "conveyor_champion_promoted_timestamp_seconds", registry="images") > 1e9
    assert alerting() <= found.keys()
    attempt = "conveyor_retraining_last_attempt_state"
    assert value(found, attempt, registry="images", state="promoted") == 1
    assert value(found, attempt, registry="images", state="failed") == 0


def alerting() -> set[str]:
    """The series that the alerts of docs/monitoring.md look at."""
    page = ROOT / "docs" / "monitoring.md"
    block = next(each.body for each in snippets(page) if each.language == "text")
    return set(re.findall(r"conveyor_\w+", block))


def attempt_of(state: Any, *, began: str, ended: str | None = None) -> Attempt:
    basis = Basis(snapshot="sha256:" + "0" * 64, settings={}, code={}, libraries={})
    return Attempt(state=state, basis=basis, run="one", start=None, champion=None, began=began, ended=ended)


def test_every_alert_has_its_series_from_the_first_attempt_on_though_it_failed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    began, ended = "2026-11-01T10:00:00+00:00", "2026-11-01T11:00:00+00:00"
    failed = attempt_of("failed", began=began, ended=ended)
    assert swap_retraining(store, "photos", Retraining(attempt=failed), None)
    write_result(tmp_path, "one", ended=ended, state="failed")
    found = parse(conveyor("metrics", "--store", ".", "--once", cwd=tmp_path).out)
    assert alerting() <= found.keys()
    seen = "conveyor_retraining_last_seen_timestamp_seconds"
    assert value(found, seen, registry="photos") == seconds(ended)
    assert value(found, "conveyor_model_versions_awaiting_approval", registry="photos") == 0


@pytest.mark.parametrize(
    ("state", "ended", "checked", "seen"),
    [
        ("promoted", "2026-11-01T11:00:00+00:00", None, "2026-11-01T11:00:00+00:00"),
        ("refused", "2026-11-01T11:00:00+00:00", "2026-11-03T03:00:00+00:00", "2026-11-03T03:00:00+00:00"),
        # One that goes on after a failure keeps its beginning: the document's own time tells.
        ("running", None, None, "2026-11-04T00:00:00+00:00"),
    ],
)
def test_a_schedule_is_seen_whatever_it_does(
    tmp_path: Path, state: Any, ended: str | None, checked: str | None, seen: str
) -> None:
    store = open_store(str(tmp_path))
    attempt = attempt_of(state, began="2026-11-01T10:00:00+00:00", ended=ended)
    swap_retraining(store, "photos", Retraining(attempt=attempt, checked=checked), None)
    written = seconds("2026-11-04T00:00:00+00:00")
    os.utime(tmp_path / "retraining" / "photos.json", (written, written))
    (model,) = Looker(store).look().models
    assert model.retraining_seen == seconds(seen)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_it_serves_sees_what_is_new_and_ends_well(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_result(store, "one", ended="2026-11-01T10:00:00+00:00")
    write_result(store, "two", ended="2026-11-01T11:00:00+00:00", state="failed")
    open_store(str(store)).put("runs/three/ingest.json", b'{"version":1}')
    with serving("--store", "store", cwd=tmp_path) as (process, url):
        while "conveyor_runs" not in (found := metrics_of(url)):
            assert process.poll() is None
        assert value(found, "conveyor_runs") == 3
        assert value(found, "conveyor_recent_runs", state="unfinished") == 1
        assert value(found, "conveyor_last_run_success") == 0
        write_result(
            store,
            "three",
            ended="2026-11-01T12:00:00+00:00",
            steps={'odd "name"\\\n': {"state": "done", "seconds": 1.5}},
        )
        while value(found, "conveyor_recent_runs", state="unfinished"):
            assert process.poll() is None
            found = metrics_of(url)
        assert value(found, "conveyor_last_run_success") == 1
        assert value(found, "conveyor_last_run_step_duration_seconds", step='odd "name"\\\n') == 1.5
        assert get(f"{url}/healthz")[::2] == (200, "ok\n")
        assert get(f"{url}/elsewhere")[0] == 404
        # Another one on the same port is told so.
        port = url.rpartition(":")[2]
        second = conveyor(
            *("metrics", "--store", "store", "--address", "127.0.0.1", "--port", port), cwd=tmp_path
        )
        assert second.status == 2
        assert "choose another --port" in second.err
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_store_that_is_away_is_a_figure_and_not_the_end(
    start_s3_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server: S3Server = start_s3_server("moto")
    for name, text in server.environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("CONVEYOR_S3_MAX_ATTEMPTS", "1")
    with serving("--store", "s3://no-such-bucket/x", cwd=tmp_path) as (process, url):
        found = metrics_of(url)
        while not value(found, "conveyor_exporter_refresh_failures_total"):
            assert process.poll() is None
            found = metrics_of(url)
        assert value(found, "conveyor_store_up") == 0
        assert "conveyor_runs" not in found
        assert get(f"{url}/healthz")[0] == 200
    once = conveyor("metrics", "--store", "s3://no-such-bucket/x", "--once", cwd=tmp_path)
    assert once.status == 2
    assert "there is no such bucket" in once.err


def test_what_is_held_does_not_grow_with_the_runs(tmp_path: Path) -> None:
    for number in range(60):
        write_result(tmp_path, f"run-{number:03d}", ended=f"2026-11-01T10:{number:02d}:00+00:00")
        path = tmp_path / "runs" / f"run-{number:03d}" / "result.json"
        os.utime(path, (1e9 + number, 1e9 + number))
    looker = Looker(open_store(str(tmp_path)), newest_runs=10)
    facts = looker.look()
    assert facts.num_runs == 60
    assert sum(facts.by_state.values()) == 10
    assert facts.last is not None
    assert facts.last.run == "run-059"
    assert len(looker._known) == 10
    # What was read before is not read again.
    known = dict(looker._known)
    looker.look()
    assert all(looker._known[run][1] is known[run][1] for run in known)
