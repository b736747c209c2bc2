"""Letting go of a Job while others may join it: the client is the real one, the server small and exact about versions."""

from collections.abc import Iterator

import pytest

from components.cluster import release
from components.cluster.api import JOB, MPI_JOB, Cluster, Kind
from components.cluster.objects import add_owners
from components.cluster.release import give_up
from support.api_server import ApiServer, Object, serving

NAME = "conveyor-train-1"
OURS = {"apiVersion": "batch/v1", "kind": "Job", "name": "conveyor-run-a", "uid": "ours"}
THEIRS = {**OURS, "name": "conveyor-run-b", "uid": "theirs"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    monkeypatch.setattr(release, "PAUSE_S", 0.001)
    return ApiServer()


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[Cluster]:
    with serving(server) as found:
        yield found


def waiting(server: ApiServer, kind: Kind) -> Object:
    return server.add(kind, {"metadata": {"name": NAME, "ownerReferences": [OURS]}, "spec": {}})


def on_delete(server: ApiServer, *events: object) -> None:
    """Each in the moment before a deletion is answered, one after the other."""
    left = list(events)

    def before(verb: str, _plural: str, _name: str) -> None:
        if verb == "delete" and left:
            event = left.pop(0)
            assert callable(event)
            event()

    server.before = before


@pytest.mark.parametrize("kind", [JOB, MPI_JOB])
def test_who_joins_in_the_last_moment_keeps_the_job(server: ApiServer, cluster: Cluster, kind: Kind) -> None:
    job = waiting(server, kind)
    joined: list[Object | None] = []
    body = {"metadata": {"name": NAME, "ownerReferences": [THEIRS]}}
    # As the other launcher does it, between our look and our deletion.
    on_delete(server, lambda: joined.append(add_owners(cluster, kind, body)))
    assert give_up(cluster, job, (OURS,)) == "left to others"
    assert joined[0] is not None
    kept = server.get(kind, NAME)
    assert kept is not None
    assert kept["metadata"]["ownerReferences"] == [THEIRS]


def test_a_status_that_changes_is_no_owner(server: ApiServer, cluster: Cluster) -> None:
    job = waiting(server, JOB)
    on_delete(server, *[lambda: server.touch(job)] * 3)
    assert give_up(cluster, job, (OURS,)) == "deleted"
    assert server.get(JOB, NAME) is None
    assert sum(verb == "delete" for verb, _, _ in server.asked) == 4


def test_a_job_that_never_holds_still_is_not_deleted_on_suspicion(
    server: ApiServer, cluster: Cluster
) -> None:
    job = waiting(server, JOB)
    on_delete(server, *[lambda: server.touch(job)] * 1000)
    assert give_up(cluster, job, (OURS,)) == "stays"
    assert server.get(JOB, NAME) is job
    assert len(server.asked) <= 2 * release.TRIES, "it has an end"


def test_another_one_of_that_name_is_spared(server: ApiServer, cluster: Cluster) -> None:
    job = waiting(server, JOB)
    other: list[Object] = []
    on_delete(server, lambda: other.append(waiting(server, JOB)))
    assert give_up(cluster, {**job, "metadata": dict(job["metadata"])}, (OURS,)) == "deleted"
    assert server.get(JOB, NAME) is other[0]


def test_one_that_is_being_deleted_is_waited_for(server: ApiServer, cluster: Cluster) -> None:
    job = waiting(server, JOB)
    job["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z"
    on_delete(server, lambda: server.touch(job))  # its finalizers are worked off meanwhile
    assert give_up(cluster, job, (OURS,)) == "deleted"
    assert server.get(JOB, NAME) is None
