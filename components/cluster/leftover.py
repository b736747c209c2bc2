"""Training in several pods that outlives what launched it: deleted, where nobody else follows it."""

from contextlib import suppress

from components.cluster.answers import Unseen
from components.cluster.api import JOB, MPI_JOB, Cluster, Object
from components.cluster.connect import connect
from components.cluster.jobs import TRAIN
from components.cluster.launch import own_owner
from components.cluster.names import STEP
from components.cluster.release import give_up
from components.cluster.views import state_of
from components.common.failures import explain
from components.common.progress import Reporter


def end_training(namespace: str | None, reporter: Reporter) -> None:
    """Delete what this run still trains in other pods, so that nothing is held for a run that has ended.

    A run that is terminated, or loses the pod of its task `train`, leaves the Job behind that the task had launched. This
    run's are those that belong to what owns this pod, Argo's Workflow. One that another launcher has joined is left to
    it. Whatever goes wrong is a warning: the run has ended as it has ended.
    """
    try:
        cluster = connect(namespace=namespace)
        owners = own_owner(cluster)
        for job in unfinished(cluster, {owner["uid"] for owner in owners}):
            name, kind = job["metadata"]["name"], job["kind"]
            became = give_up(cluster, job, owners)
            if became == "deleted":
                reporter.info(
                    f"{kind} {name} was deleted: its run has ended; a new one goes on where it stopped"
                )
            elif became == "left to others":
                reporter.info(f"{kind} {name} goes on, for the others that follow it")
            else:
                reporter.warning(
                    f"{kind} {name} changes too fast to be deleted, and holds what it holds",
                    todo=f"kubectl -n {cluster.namespace} delete {kind.lower()} {name}",
                )
    except Exception as error:  # noqa: BLE001 - the report is still to be written
        explained = explain(error)
        reporter.warning(
            f"the training in other pods may go on: {explained.what}",
            found=explained.found,
            todo=f"kubectl get jobs,mpijobs -l {STEP}={TRAIN}   shows it",
        )


def unfinished(cluster: Cluster, owners: set[str]) -> list[Object]:
    """The training Jobs that one of these owns and that have not ended. The run's label does not tell: it names who made
    the Job, not who has joined it."""
    found: list[Object] = []
    for kind in (JOB, MPI_JOB) if owners else ():
        # Without the MPI operator there is no such kind; without the rights this run has launched nothing.
        with suppress(Unseen):
            found += [{**job, "kind": kind.name} for job in cluster.list(kind, labels=f"{STEP}={TRAIN}")]
    return [job for job in found if state_of(job).name == "running" and owners & _owners(job)]


def _owners(job: Object) -> set[str]:
    return {owner["uid"] for owner in job["metadata"].get("ownerReferences") or []}
