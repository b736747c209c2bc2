"""Let go of a Job that waits in vain: deleted, unless other launchers follow it too."""

from collections.abc import Sequence

from components.cluster.api import JOB, MPI_JOB, Cluster, Kind, Object

TRIES = 5


def give_up(cluster: Cluster, job: Object, owners: Sequence[Object] = ()) -> bool:
    """Delete the Job, so that it neither waits for ever nor holds anything nor stands in the way of the next try.

    Where it has owners besides `owners` (other launchers joined it, and may be more patient), ours are taken off it and
    it stays: False.
    """
    kind, name, uid = kind_of(job), job["metadata"]["name"], job["metadata"]["uid"]
    ours = {owner["uid"] for owner in owners}
    for _ in range(TRIES):
        found = cluster.get(kind, name)
        if found is None or found["metadata"]["uid"] != uid:
            return True
        all_owners = found["metadata"].get("ownerReferences") or []
        others = [owner for owner in all_owners if owner["uid"] not in ours]
        if not others:
            cluster.delete(kind, name, uid=uid)
            return True
        version = found["metadata"]["resourceVersion"]
        patch: Object = {"metadata": {"resourceVersion": version, "ownerReferences": others}}
        if len(others) == len(all_owners) or cluster.patch(kind, name, patch) is not None:
            return False
    return False


def kind_of(job: Object) -> Kind:
    """Where it lives."""
    return MPI_JOB if job.get("kind") == MPI_JOB.name else JOB
