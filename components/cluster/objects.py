"""Make what is not there, adopt what is: two launchers of the same work end up with the same objects."""

import copy
from dataclasses import dataclass

from components.cluster.api import POD, Cluster, Kind, Object
from components.cluster.diagnose import end_of_pod
from components.cluster.logs import has_started
from components.cluster.names import TEMPLATE
from components.cluster.relay import Relay
from components.cluster.verdict import verdict
from components.cluster.views import selector, state_of
from components.common.canonical import digest_json
from components.common.errors import StepError

TRIES = 20


@dataclass(frozen=True, slots=True)
class Ensured:
    """A Job that is there now."""

    job: Object
    created: bool


def template_digest(body: Object) -> str:
    """Digest of how a Job runs; `body` has placeholders for what may differ between its launchers."""
    return digest_json(body).removeprefix("sha256:")[:16]


def ensure(cluster: Cluster, kind: Kind, body: Object) -> Object:
    """Create the object; where it is there, add our owners to its own."""
    for _ in range(TRIES):
        created = cluster.create(kind, body)
        if created is not None:
            return created
        found = add_owners(cluster, kind, body)
        if found is not None:
            return found
    raise _contested(kind, body["metadata"]["name"], cluster)


def add_owners(cluster: Cluster, kind: Kind, body: Object, *, also_unowned: bool = False) -> Object | None:
    """The object with the owners of `body` among its own; None where it has gone.

    What nobody owns was made by hand: it is not ours to have collected, unless `also_unowned`.
    """
    name = body["metadata"]["name"]
    for _ in range(TRIES):
        found = cluster.get(kind, name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return None
        owners = found["metadata"].get("ownerReferences") or []
        known = {owner["uid"] for owner in owners}
        more = [owner for owner in body["metadata"].get("ownerReferences") or [] if owner["uid"] not in known]
        if not more or not (owners or also_unowned):
            return found
        patch = {
            "metadata": {
                "resourceVersion": found["metadata"]["resourceVersion"],
                "ownerReferences": [*owners, *more],
            }
        }
        patched = cluster.patch(kind, name, patch)
        if patched is not None:
            return patched
    return None


def ensure_job(
    cluster: Cluster, kind: Kind, body: Object, relay: Relay, *, replace_finished: bool, replace_other: bool
) -> Ensured:
    """Create the Job or adopt the one of that name.

    One that failed and was left behind is told and replaced, once; a finished one only with `replace_finished`. An
    unfinished one of another template is adopted if its pods work (the result is the same), and replaced if none ever
    started; with `replace_other` False it is handed back as it is.
    """
    name = body["metadata"]["name"]
    failed_once = False
    for _ in range(TRIES):
        created = cluster.create(kind, body)
        if created is not None:
            return Ensured(_typed(created, kind), created=True)
        found = cluster.get(kind, name)
        if found is None:
            continue
        found = _typed(found, kind)
        uid = found["metadata"]["uid"]
        if found["metadata"].get("deletionTimestamp"):
            cluster.delete(kind, name, uid=uid)
            continue
        state = state_of(found)
        if state.name == "failed" and not failed_once:
            failed_once = True
            pods = cluster.list(POD, labels=selector(found))
            old = verdict(found, state, pods, [])
            relay.info(f"{kind.name} {name} had failed and is started anew ({old.what})")
            cluster.delete(kind, name, uid=uid)
            continue
        if state.name == "complete" and replace_finished:
            cluster.delete(kind, name, uid=uid)
            continue
        if state.name == "running" and replace_other and _is_other(found, body):
            if not _has_worked(cluster, found):
                relay.info(f"{kind.name} {name} has other settings and never started: it is replaced")
                cluster.delete(kind, name, uid=uid)
                continue
            relay.info(
                f"{kind.name} {name} runs with other settings, which do not change its result: joining it"
            )
        adopted = add_owners(cluster, kind, body)
        if adopted is not None:
            return Ensured(_typed(adopted, kind), created=False)
    raise _contested(kind, name, cluster)


def same_template(job: Object, body: Object) -> bool:
    """Whether both run in the same way."""
    return not _is_other(job, body)


def _is_other(job: Object, body: Object) -> bool:
    ours = (body["metadata"].get("annotations") or {}).get(TEMPLATE)
    return (job["metadata"].get("annotations") or {}).get(TEMPLATE) != ours


def _has_worked(cluster: Cluster, job: Object) -> bool:
    pods = cluster.list(POD, labels=selector(job))
    return any(has_started(pod) and end_of_pod(pod) is None for pod in pods)


def _typed(found: Object, kind: Kind) -> Object:
    found = copy.copy(found)
    found.setdefault("kind", kind.name)
    return found


def _contested(kind: Kind, name: str, cluster: Cluster) -> StepError:
    return StepError(
        f"the {kind.name} {name} is deleted and made again and again by somebody else",
        where=f"namespace {cluster.namespace}",
        todo="find out who does it, and run again",
    )
