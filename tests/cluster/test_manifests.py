"""`kubectl apply -k` on a real cluster: the whole example, once, in order, with training on two pods; no operator."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components.common.blobs import Blobs
from components.common.refs import ModelRef, Ref, ShardsRef, parse_ref
from components.common.runs import list_runs, output_of, read_pointer
from components.common.store import Store, open_store
from components.data.index import read_index
from components.data.order import sample_order
from pipelines.cli import invoke
from support.applied import Overlay, applied_to, make_secret
from support.cluster_world import IMAGE, wait_until, why_no_cluster
from support.containers import Box, need_engine, shared_folder
from support.small_digits import write_small_digits
from support.small_pipeline import SMALL, conveyor, write_config

REASON = why_no_cluster()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(REASON is not None, reason=f"no cluster: {REASON}"),
]
STEPS = ["ingest", "preprocess", "train", "evaluate", "compress", "promote"]
STORE = "s3://conveyor/store"
ALL = 10_000
"""Images per class: what the overlay uploads is the whole example."""
SETTINGS: dict[str, Any] = {
    **SMALL,
    "ingest": {"source": "s3://conveyor-images/digits", "dataset": "digits", "num_workers": 1},
    "train": {**SMALL["train"], "workers": None, "batch_size": 64},
    "store": {"url": STORE, "endpoint": "http://conveyor-storage:9000"},
}
CONFIG = "/etc/conveyor/config.yaml"


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overlay]:
    with applied_to("local", tmp_path_factory.mktemp("local")) as made:
        make_secret(made.world)
        yield made


@pytest.fixture
def credentials(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process read the cluster's storage."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", overlay.world.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", overlay.world.secret_key)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_wrong_settings_end_all_jobs_soon_and_each_says_why(overlay: Overlay) -> None:
    overlay.configure({**SETTINGS, "ingest": {**SETTINGS["ingest"], "source": "s3://conveyor-images/none"}})
    overlay.apply()
    states = wait_until("a pod that waits", lambda: waiting(overlay), timeout_s=180)
    assert set(states) <= {
        "wait-for-store",
        "wait-for-ingest",
        "wait-for-preprocess",
        "wait-for-train",
        "wait-for-evaluate",
        "wait-for-compress",
    }
    assert overlay.wait_for("ingest") == "Failed"
    assert overlay.wait_for("promote", timeout_s=480) == "Failed"
    assert "the source holds no images" in overlay.log("ingest")
    # The failure went from one to the next, each with the cause.
    assert "promote has nothing to work on" in overlay.log("promote", "wait-for-evaluate")
    assert "ingest failed for good" in overlay.log("promote", "wait-for-evaluate")
    assert "unchanged" in overlay.apply(), "applied again over what failed: no error, and nothing happens"


def test_a_step_that_is_killed_for_memory_ends_all_jobs_too(overlay: Overlay) -> None:
    """It can say nothing itself; the container beside it counts its tries and tells the others."""
    little = ("--set", "kubernetes.resources={ingest: {memory: 64Mi}}", "--set", "kubernetes.retries=1")
    write_manifests(overlay, *little)
    overlay.configure(SETTINGS)
    overlay.apply()
    assert overlay.wait_for("promote", timeout_s=480) == "Failed"
    killed = [
        status["state"]["terminated"]["reason"]
        for pod in overlay.world.get("pods", f"conveyor/step=ingest,conveyor/run={overlay.run()}")
        for status in pod["status"]["containerStatuses"]
    ]
    assert killed == ["OOMKilled"] * 2, "it was tried again"
    told = overlay.log("promote", "wait-for-evaluate")
    assert "ingest failed for good" in told
    assert "killed without a word, most likely out of memory (limit 64 MiB)" in told
    write_manifests(overlay)  # The next test repairs it: the same run, other names.


def test_changed_settings_run_beside_what_failed_and_the_digests_are_those_of_the_image_elsewhere(
    overlay: Overlay, credentials: None, tmp_path: Path
) -> None:
    overlay.configure(SETTINGS)
    overlay.apply()
    assert overlay.wait_for("promote") == "Complete"
    assert {step: "done" in overlay.log(step) for step in STEPS} == dict.fromkeys(STEPS, True)
    pods = overlay.world.get("pods", "conveyor/step=train")
    assert len({pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Succeeded"}) == 2
    with overlay.store(STORE) as store:
        run = newest_run(store)
        there = {step: required(output_of(store, run, step)) for step in STEPS}
        promotion = there["promote"].to_value()
        assert promotion["promoted"] is True
        here = on_this_machine(tmp_path / "host")
        assert there["ingest"] == here["ingest"]
        assert there["preprocess"] == here["preprocess"]
        own = open_store(str(tmp_path / "host" / "store"))
        assert training_order(store, there["preprocess"]) == training_order(own, here["preprocess"])
    need_engine()
    boxed = in_a_container(tmp_path / "box")
    for step in STEPS[:4]:
        assert there[step] == boxed[step], step
    trained = there["train"]
    assert isinstance(trained, ModelRef)
    assert trained.weights == boxed["train"].to_value()["weights"]


def test_changed_settings_over_finished_jobs_and_then_deleted_and_applied_again(
    overlay: Overlay, credentials: None
) -> None:
    with overlay.store(STORE) as store:
        run = newest_run(store)
        before = {step: read_pointer(store, run, step) for step in STEPS}
    overlay.configure({**SETTINGS, "promote": {**SMALL["promote"], "min_accuracy": 0.01}})
    assert "created" in overlay.apply()
    assert overlay.wait_for("ingest") == "Complete"
    assert "ingest: reused" in overlay.log("ingest")
    overlay.delete()
    overlay.configure(SETTINGS)
    overlay.delete()
    overlay.apply()
    assert overlay.wait_for("promote") == "Complete"
    assert {step: f"{step}: reused" in overlay.log(step) for step in STEPS} == dict.fromkeys(STEPS, True)
    with overlay.store(STORE) as store:
        after = {step: read_pointer(store, run, step) for step in STEPS}
        (confirmed,) = store.list(f"runs/{run}/ingest.json")
    # It did not start from what the deleted Jobs had left before its own ingest had looked at the source. (Where its pod
    # came first, it said that it waits for that; a busy machine may start it later.)
    assert overlay.said_at("preprocess", "wait-for-ingest", "ingest is there") >= confirmed.modified
    for step in STEPS:
        old, new = before[step], after[step]
        assert old is not None
        assert new is not None
        assert new.key == old.key
        assert new.job != old.job


def test_the_schedule_finds_nothing_new_in_what_was_just_run(overlay: Overlay) -> None:
    schedule = overlay.schedule({**SETTINGS, "kubernetes": {"training": {"pods": 2}}})
    assert "cronjob.batch/conveyor-retrain created" in schedule.apply()
    world = overlay.world
    steps = {job["metadata"]["uid"] for job in world.get("jobs", "conveyor/step")}
    world.kubectl("create", "job", "--from=cronjob/conveyor-retrain", "retrain-now")
    path = '{.status.conditions[?(@.status=="True")].type}'

    def ended() -> bool:
        found = world.kubectl("get", "job", "retrain-now", "-o", f"jsonpath={path}").split()
        return "Complete" in found or "Failed" in found

    wait_until("the tick's end", ended, timeout_s=400)
    log = world.kubectl("logs", "job/retrain-now")
    (told,) = [json.loads(line) for line in log.splitlines() if line.startswith('{"run"')]
    assert (told["state"], list(told["steps"])) == ("unchanged", ["ingest"]), log[-4000:]
    assert told["steps"]["ingest"]["state"] == "reused"
    now = {job["metadata"]["uid"] for job in world.get("jobs", "conveyor/step")}
    assert now <= steps, "it made a Job for a step though nothing was new"


def waiting(overlay: Overlay) -> list[str]:
    """Names of the containers that wait now: what `kubectl get pods` shows as Init:1/2."""
    statuses = [
        status
        for pod in overlay.world.get("pods", "conveyor/step")
        for status in pod["status"].get("initContainerStatuses", [])
    ]
    running = [status["name"] for status in statuses if "running" in status["state"]]
    return [name for name in running if name != "watch"]


def write_manifests(overlay: Overlay, *more: str) -> None:
    """The whole tree anew; what belongs to the overlay stays."""
    assert invoke(["manifests", str(overlay.folder.parents[1]), *more]) == 0


def newest_run(store: Store) -> str:
    """The run that got as far as the promotion."""
    (run,) = [each for each in list_runs(store) if read_pointer(store, each, "promote") is not None]
    return run


def required(ref: Ref | None) -> Ref:
    assert ref is not None
    return ref


def training_order(store: Store, shards: Ref, epochs: int = 2) -> list[list[int]]:
    """Sample ids in the order in which training sees them."""
    assert isinstance(shards, ShardsRef)
    index = read_index(shards, Blobs(store), "train")
    orders = [sample_order(0, epoch, index.block_sizes) for epoch in range(epochs)]
    return [index.sample_id[np.asarray(order)].tolist() for order in orders]


def on_this_machine(folder: Path) -> dict[str, Ref]:
    write_small_digits(folder / "digits", per_class=ALL)
    settings = {
        **SETTINGS,
        "ingest": {**SETTINGS["ingest"], "source": str(folder / "digits")},
        "store": {"url": str(folder / "store")},
    }
    config = write_config(folder / "config.yaml", settings)
    ended = conveyor("run", "-f", config, "--until", "preprocess", "--json", cwd=folder, timeout_s=400)
    assert ended.status == 0, ended.err
    return outputs(ended.json())


def in_a_container(folder: Path) -> dict[str, Ref]:
    """The same image under `docker run`, with as many workers."""
    folder.mkdir()
    folder.chmod(0o755)
    write_small_digits(folder / "digits", per_class=ALL)
    settings = {
        **SETTINGS,
        "ingest": {**SETTINGS["ingest"], "source": "/data"},
        "train": {**SETTINGS["train"], "workers": 2},
        "store": {"url": "/store"},
    }
    (folder / "etc").mkdir()
    (folder / "etc" / "config.yaml").write_text(yaml.safe_dump(settings))
    mounts = {"/data:ro": folder / "digits", "/etc/conveyor:ro": folder / "etc"}
    box = Box(
        os.environ.get("CONVEYOR_TEST_DOCKER_IMAGE", IMAGE),
        {**mounts, "/store": shared_folder(folder / "store")},
    )
    ended = box.run("run", "-f", CONFIG, "--until", "evaluate", "--json", timeout_s=400)
    assert ended.status == 0, ended.err
    return outputs(json.loads(ended.out))


def outputs(result: dict[str, Any]) -> dict[str, Ref]:
    return {name: parse_ref(step["output"], where=name) for name, step in result["steps"].items()}
