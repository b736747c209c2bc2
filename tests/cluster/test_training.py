"""Horovod across pods of a real cluster that are killed, ranks 0 among them: the weights are those of one quiet pod."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.cluster_training import Trained, train_in_one_pod, training
from support.cluster_world import (
    World,
    delete_namespace,
    fill,
    kubectl,
    make_namespace,
    start_minio,
    why_no_cluster,
)

REASON = why_no_cluster()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(REASON is not None, reason=f"no cluster: {REASON}"),
]
MPI_IMAGE = os.environ.get("CONVEYOR_TEST_MPI_IMAGE", "conveyor:mpi")
SETTINGS: dict[str, Any] = {
    "workers": None,
    # 120 steps of milliseconds, and PACE on an idle machine: the last kill came at step 25 or so.
    "epochs": 40,
    "checkpoint": {"interval_steps": 2},
    "max_restarts": 10,
}
PACE = {"train": {"cpu_limit": "500m"}}
"""Of the pods that are killed."""
WORKER = "training.kubeflow.org/job-role=worker,training.kubeflow.org/replica-index={}".format
Reference = Callable[[int], Trained]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_namespace("training")
    try:
        start_minio(made)
        fill(made, tmp_path_factory.mktemp("images"))
        yield made
    finally:
        delete_namespace(made)


@pytest.fixture(scope="module")
def mpi_operator() -> None:
    if not kubectl("get", "crd", "mpijobs.kubeflow.org", "--ignore-not-found").strip():
        pytest.skip("the cluster has no MPI operator")


@pytest.fixture
def reference(world: World, tmp_path: Path) -> Reference:
    """The same with so many workers in one pod, in a store of its own, and nothing is killed."""

    def train(workers: int) -> Trained:
        config = world.config(
            tmp_path,
            "reference",
            train={**SETTINGS, "workers": workers},
            store={"url": "s3://store/reference"},
        )
        return train_in_one_pod(world, config, f"reference-{workers}")

    return train


def test_an_indexed_job_whose_pods_and_workers_are_killed_ends_with_the_weights_of_one_pod(
    world: World, reference: Reference, tmp_path: Path
) -> None:
    settings = world.kubernetes(resources=PACE, training={"pods": 3, "max_attempts": 20})
    config = world.config(tmp_path, train=SETTINGS, kubernetes=settings)
    rank = "batch.kubernetes.io/job-completion-index={}".format
    with training(world, config, "indexed", "jobs") as run:
        run.survive(run.delete_pod, rank(1))
        run.survive(run.delete_pod, rank(0))
        run.survive(run.kill_worker, rank(0))
        run.survive(run.kill_worker, rank(2))
        trained = run.result()
    (job,) = [job for job in world.get("jobs") if job["metadata"]["name"] == run.job["metadata"]["name"]]
    assert job["metadata"]["uid"] == run.job["metadata"]["uid"], "one Job from beginning to end"
    assert job["status"]["succeeded"] == 3
    assert trained == reference(3)


def test_an_mpi_job_whose_workers_and_launcher_are_killed_ends_with_the_weights_of_one_pod(
    world: World, reference: Reference, mpi_operator: None, tmp_path: Path
) -> None:
    # Another port than the image's own, which both ends of ssh must be told.
    training_settings = {"kind": "mpi-job", "pods": 2, "max_attempts": 20, "ssh_port": 2022}
    settings = world.kubernetes(image=MPI_IMAGE, resources=PACE, training=training_settings)
    config = world.config(tmp_path, train=SETTINGS, kubernetes=settings)
    with training(world, config, "mpi", "mpijobs") as run:
        run.survive(run.delete_pod, WORKER(1))
        run.survive(run.delete_pod, WORKER(0))
        run.survive(run.kill_worker, WORKER(0))
        run.survive(run.delete_pod, "training.kubeflow.org/job-role=launcher")
        trained = run.result()
    assert trained == reference(2)


def test_an_elastic_mpi_job_goes_on_without_a_worker_and_takes_its_successor_in(
    world: World, mpi_operator: None, tmp_path: Path
) -> None:
    """Left before its end: how a training ends is shown above, and what is left goes with the namespace."""
    settings = world.kubernetes(
        image=MPI_IMAGE,
        resources=PACE,
        training={"kind": "mpi-job", "pods": 2, "min_pods": 1},
        env={"CONVEYOR_TRAIN_SETTLE_S": "1", "CONVEYOR_TRAIN_GROW_AFTER_S": "1"},
    )
    config = world.config(tmp_path, train={**SETTINGS, "epochs": 5000}, kubernetes=settings)
    with training(world, config, "elastic", "mpijobs") as run:
        assert run.job["kind"] == "MPIJob"  # which takes its time to come
        run.until("both workers", lambda: "0, 1" in run.worlds())
        before = len(run.worlds())
        run.survive(run.delete_and_keep_its_place, WORKER(1))
        run.until("one alone", lambda: "0" in run.worlds()[before:])
        alone = run.worlds().index("0", before)
        run.give_places_free()
        run.until("both again", lambda: "0, 1" in run.worlds()[alone:])
        run.progress()
