"""Let go of a Job that waits in vain: deleted, unless other launchers follow it too."""

import time
from collections.abc import Sequence
from typing import Literal

from components.cluster.api import JOB, MPI_JOB, Cluster, Kind, Object

TRIES = 20
PAUSE_S = 0.1
"""Its controller writes a Job's status some times a second at most."""

LetGo = Literal["deleted", "left to others", "stays"]
"""What became of it. `stays`: it changed under every attempt, so nobody can say that it is ours alone."""


def give_up(cluster: Cluster, job: Object, owners: Sequence[Object] = ()) -> LetGo:
    """Delete the Job, so that it neither waits for ever nor holds anything nor stands in the way of the next try.

    Where it has owners besides `owners` (other launchers joined it, and may be more patient), ours are taken off it and
    it is left to them. It is changed only as it was seen: who joins it in between keeps it.
    """
    kind, name, uid = kind_of(job), job["metadata"]["name"], job["metadata"]["uid"]
    ours = {owner["uid"] for owner in owners}
    others: list[Object] = []
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S)
        found = cluster.get(kind, name)
        if found is None or found["metadata"]["uid"] != uid:
            return "deleted"
        version = found["metadata"]["resourceVersion"]
        all_owners = found["metadata"].get("ownerReferences") or []
        others = [owner for owner in all_owners if owner["uid"] not in ours]
        if found["metadata"].get("deletionTimestamp"):  # nobody joins it any more
            cluster.delete(kind, name, uid=uid)
            return "deleted"
        if not others:
            if cluster.delete(kind, name, uid=uid, version=version):
                return "deleted"
            continue
        patch: Object = {"metadata": {"resourceVersion": version, "ownerReferences": others}}
        if len(others) == len(all_owners) or cluster.patch(kind, name, patch) is not None:
            return "left to others"
    return "left to others" if others else "stays"


def kind_of(job: Object) -> Kind:
    """Where it lives."""
    return MPI_JOB if job.get("kind") == MPI_JOB.name else JOB
