"""A Job and an MPIJob of one key: whoever comes second follows the first, and there is never more than one that works."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from components.cluster.api import CONFIG_MAP, JOB, MPI_JOB, POD, SERVICE, Cluster, Kind
from components.cluster.config import KubernetesConfig, TrainingConfig
from components.cluster.jobs import config_map, training_service
from components.cluster.launch import step_object
from components.cluster.objects import Ensured, ensure_job
from components.cluster.rbac import LAUNCHER, RULES
from components.cluster.rival import OTHER_KIND
from components.common.errors import InputError
from support.api_server import ApiServer, Object, serving
from support.cluster_memory import World

NAME = "conveyor-train-1"
OURS = {"apiVersion": "batch/v1", "kind": "Job", "name": "conveyor-run-a", "uid": "ours"}
THEIRS = {**OURS, "name": "conveyor-run-b", "uid": "theirs"}
KINDS = [JOB, MPI_JOB]


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[Cluster]:
    with serving(server) as found:
        yield found


def settings_for(kind: Kind) -> KubernetesConfig:
    return KubernetesConfig(training=TrainingConfig(kind="indexed-job" if kind is JOB else "mpi-job", pods=2))


def body_of(kind: Kind, owner: Object) -> Object:
    """As the launcher writes it."""
    made, body = step_object(
        NAME,
        "train",
        "r1",
        settings_for(kind),
        config_map=f"conveyor-config-{owner['uid']}",
        key="1",
        files={},
        owners=(owner,),
    )
    assert made is kind
    return body


def launch(cluster: Cluster, kind: Kind, *, owner: Object = OURS, finished: bool = False) -> Ensured:
    return ensure_job(
        cluster,
        kind,
        body_of(kind, owner),
        World().relay,
        replace_finished=finished,
        replace_other=True,
        other=OTHER_KIND[kind],
    )


def begin(server: ApiServer, kind: Kind) -> Object:
    """The other launcher has made it, with all that belongs to it, and its pods work."""
    settings = settings_for(kind)
    job = server.add(kind, body_of(kind, THEIRS))
    server.add(CONFIG_MAP, config_map("conveyor-config-theirs", "", settings, owners=(THEIRS,)))
    if kind is JOB:
        server.add(SERVICE, training_service(NAME, "r1", settings, owners=(THEIRS,)))
    labels = {
        "batch.kubernetes.io/controller-uid": job["metadata"]["uid"],
        "training.kubeflow.org/job-name": NAME,
    }
    status = {"phase": "Running", "containerStatuses": [{"name": "conveyor", "state": {"running": {}}}]}
    server.add(POD, {"metadata": {"name": "p-0", "labels": labels}, "spec": {}, "status": status})
    return job


def end(server: ApiServer, job: Object, condition: str) -> None:
    job["status"] = {"conditions": [{"type": condition, "status": "True"}]}
    server.touch(job)


def present(server: ApiServer) -> list[str]:
    return [kind.name for kind in KINDS if server.get(kind, NAME) is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_the_other_kind_that_works_is_joined_with_all_that_it_needs(
    server: ApiServer, cluster: Cluster, kind: Kind
) -> None:
    job = begin(server, OTHER_KIND[kind])
    ensured = launch(cluster, kind)
    assert (ensured.created, ensured.job["kind"]) == (False, OTHER_KIND[kind].name)
    assert ensured.job["metadata"]["uid"] == job["metadata"]["uid"]
    assert present(server) == [OTHER_KIND[kind].name]
    # When the first launcher is deleted, nothing that the pods will need goes with it.
    owned = [found for (plural, _), found in server.objects.items() if plural != "pods"]
    assert len(owned) == (3 if kind is MPI_JOB else 2)
    for found in owned:
        assert found["metadata"]["ownerReferences"] == [THEIRS, OURS], found["metadata"]["name"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_the_other_kind_that_never_started_is_replaced(
    server: ApiServer, cluster: Cluster, kind: Kind
) -> None:
    begin(server, OTHER_KIND[kind])
    del server.objects["pods", "p-0"]
    assert launch(cluster, kind).created
    assert present(server) == [kind.name]


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_the_other_kind_that_has_ended(server: ApiServer, cluster: Cluster, kind: Kind) -> None:
    job = begin(server, OTHER_KIND[kind])
    end(server, job, "Complete" if kind is MPI_JOB else "Succeeded")
    assert not launch(cluster, kind).created, "its result is in the store"
    assert launch(cluster, kind, finished=True).created, "it was not"
    del server.objects[kind.plural, NAME]
    end(server, job, "Failed")
    assert launch(cluster, kind).created
    assert present(server) == ["Job", "MPIJob"]


def test_a_step_that_knows_one_kind_only_is_not_asked_for_another(
    server: ApiServer, cluster: Cluster
) -> None:
    body = body_of(JOB, OURS)
    ensure_job(cluster, JOB, body, World().relay, replace_finished=False, replace_other=True)
    assert "mpijobs" not in {plural for _, plural, _ in server.asked}


@contextmanager
def launching(server: ApiServer) -> Iterator[Cluster]:
    with serving(server) as found:
        yield found


def test_no_operator_and_no_right_to_see_its_jobs_are_no_errors() -> None:
    rights = tuple(rule for rule in RULES[LAUNCHER] if rule[1] != "mpijobs")
    for server in (ApiServer(kinds=[JOB]), ApiServer(rules=rights), ApiServer(kinds=[JOB], rules=rights)):
        with launching(server) as cluster:
            assert launch(cluster, JOB).created
            assert not launch(cluster, JOB, owner=THEIRS).created


def test_a_kind_that_the_cluster_does_not_know_takes_nobody_s_place() -> None:
    server = ApiServer(kinds=[JOB])
    begin(server, JOB)
    del server.objects["pods", "p-0"]
    with launching(server) as cluster, pytest.raises(InputError, match="does not know the resource mpijobs"):
        launch(cluster, MPI_JOB)
    assert present(server) == ["Job"]


def once(server: ApiServer, asked: tuple[str, str], event: Callable[[], object]) -> None:
    """In the moment before the first such request (verb, resource) is answered."""

    def before(verb: str, plural: str, _name: str) -> None:
        if (verb, plural) == asked:
            server.before = lambda *_: None
            event()

    server.before = before


@pytest.mark.parametrize("kind", KINDS)
def test_of_two_that_are_made_in_one_moment_the_job_stays(
    server: ApiServer, cluster: Cluster, kind: Kind
) -> None:
    made: list[Ensured] = []
    # Both have looked, and there was nothing.
    once(
        server,
        ("create", kind.plural),
        lambda: made.append(launch(cluster, OTHER_KIND[kind], owner=THEIRS)),
    )
    ensured = launch(cluster, kind)
    assert made[0].created
    assert present(server) == ["Job"]
    assert (ensured.created, ensured.job["kind"]) == (kind is JOB, "Job")


def test_a_job_that_was_replaced_before_its_launcher_had_looked_again(
    server: ApiServer, cluster: Cluster
) -> None:
    looks = 0

    def before(verb: str, plural: str, _name: str) -> None:
        nonlocal looks
        looks += (verb, plural) == ("get", "mpijobs")
        if looks == 2:  # after ours was made
            looks += 1
            assert launch(cluster, MPI_JOB, owner=THEIRS).created

    server.before = before
    ensured = launch(cluster, JOB)
    assert (ensured.created, ensured.job["kind"]) == (False, "MPIJob")
    assert present(server) == ["MPIJob"]


def test_launchers_of_both_kinds_at_once_leave_one_object(server: ApiServer, cluster: Cluster) -> None:
    dice = random.Random(7)
    server.before = lambda *_: time.sleep(dice.random() * 0.003)
    for _ in range(12):
        threads = [
            threading.Thread(target=launch, args=(cluster, kind), kwargs={"owner": owner})
            for kind, owner in ((JOB, OURS), (MPI_JOB, THEIRS))
        ]
        for thread in threads:
            thread.start()
            time.sleep(dice.random() * 0.008)
        for thread in threads:
            thread.join()
        assert len(present(server)) == 1, present(server)
        server.objects.clear()
