"""Training of several pods under the other kind: a Job and an MPIJob of one key have one name and do the same work."""

from components.cluster.api import JOB, MPI_JOB, Cluster, Kind, Object
from components.cluster.views import state_of

OTHER_KIND = {JOB: MPI_JOB, MPI_JOB: JOB}


def find_rival(cluster: Cluster, other: Kind | None, name: str, *, finished: bool = False) -> Object | None:
    """The object of the kind `other` that does the work, or (where `finished`) has done it.

    One that is being deleted is waited for. None where the cluster has no such kind: then nobody made one.
    """
    found = cluster.find(other, name) if other is not None else None
    if other is None or found is None:
        return None
    if found["metadata"].get("deletionTimestamp"):
        cluster.delete(other, name, uid=found["metadata"]["uid"])
        return find_rival(cluster, other, name, finished=finished)
    states = ("running", "complete") if finished else ("running",)
    return {**found, "kind": other.name} if state_of(found).name in states else None


def keeps_its_place(cluster: Cluster, kind: Kind, created: Object, other: Kind | None) -> bool:
    """Whether what we have just made is what all launchers follow; if not, it is deleted.

    Another launcher may have made one of the other kind in the same moment. Whoever came last sees both, and whoever
    sees both keeps the Job.
    """
    name, uid = created["metadata"]["name"], created["metadata"]["uid"]
    rival = find_rival(cluster, other, name)
    if rival is None or other is None:
        return True
    # Who found ours before it had started may have deleted it, and made the rival in its place.
    ours = cluster.get(kind, name) if kind is JOB else None
    if ours is not None and ours["metadata"]["uid"] == uid and not ours["metadata"].get("deletionTimestamp"):
        cluster.delete(other, name, uid=rival["metadata"]["uid"])
        return True
    cluster.delete(kind, name, uid=uid)
    return False
