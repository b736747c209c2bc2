"""Make what is not there, adopt what is: two launchers of the same work end up with the same objects."""

import copy
from dataclasses import dataclass

from components.cluster.api import CONFIG_MAP, POD, SERVICE, Cluster, Kind, Object
from components.cluster.diagnose import end_of_pod
from components.cluster.logs import has_started
from components.cluster.names import CONFIG_VOLUME, TEMPLATE
from components.cluster.relay import Relay
from components.cluster.release import kind_of
from components.cluster.rival import find_rival, keeps_its_place
from components.cluster.verdict import verdict
from components.cluster.views import selector, state_of, templates_of
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
    cluster: Cluster,
    kind: Kind,
    body: Object,
    relay: Relay,
    *,
    replace_finished: bool,
    replace_other: bool,
    other: Kind | None = None,
) -> Ensured:
    """Create the Job or adopt the one of that name.

    One that failed and was left behind is told and replaced, once; a finished one only with `replace_finished`. An
    unfinished one of another template is adopted if its pods work (the result is the same), and replaced if none ever
    started; with `replace_other` False it is handed back as it is.

    `other` is the kind that the same work may be there as, under the same name (`rival.py`). It counts as another
    template; one that has failed is in nobody's way, and stays.
    """
    name = body["metadata"]["name"]
    failed_once = False
    for _ in range(TRIES):
        found = find_rival(cluster, other, name, finished=not replace_finished)
        if found is None:
            created = cluster.create(kind, body)
            if created is None:
                found = cluster.get(kind, name)
            elif keeps_its_place(cluster, kind, created, other):
                return Ensured(_typed(created, kind), created=True)
            else:
                replace_other = False  # Two launchers are not to replace each other's Jobs for ever.
        if found is None:
            continue
        found = _typed(found, kind)
        makes_way = _makes_way(
            cluster,
            found,
            kind,
            body,
            relay,
            replace_failed=not failed_once,
            replace_finished=replace_finished,
            replace_other=replace_other,
        )
        if makes_way:
            failed_once = failed_once or state_of(found).name == "failed"
            cluster.delete(kind_of(found), name, uid=found["metadata"]["uid"])
            continue
        adopted = _adopt(cluster, kind_of(found), body)
        if adopted is not None:
            return adopted
    raise _contested(kind, name, cluster)


def _makes_way(
    cluster: Cluster,
    found: Object,
    kind: Kind,
    body: Object,
    relay: Relay,
    *,
    replace_failed: bool,
    replace_finished: bool,
    replace_other: bool,
) -> bool:
    """Whether what is there is to be deleted; says why."""
    state, what = state_of(found), f"{found['kind']} {found['metadata']['name']}"
    if found["metadata"].get("deletionTimestamp"):
        return True
    if state.name == "complete":
        return replace_finished
    if state.name == "failed":
        if replace_failed:
            old = verdict(found, state, cluster.list(POD, labels=selector(found)), [])
            relay.info(f"{what} had failed and is started anew ({old.what})")
        return replace_failed
    if not replace_other or not _is_other(found, body):
        return False
    if _has_worked(cluster, found):
        relay.info(f"{what} runs with other settings, which do not change its result: joining it")
        return False
    if kind_of(found) is not kind:
        # A cluster that does not know our kind says so before anything goes.
        cluster.get(kind, found["metadata"]["name"])
    relay.info(f"{what} has other settings and never started: it is replaced")
    return True


def _adopt(cluster: Cluster, kind: Kind, body: Object) -> Ensured | None:
    """Join the Job of that name: it becomes ours too, and so does what its pods need, which may not be what ours would.

    None where it has gone.
    """
    found = add_owners(cluster, kind, body)
    if found is None:
        return None
    found, owners = _typed(found, kind), body["metadata"].get("ownerReferences") or []
    for needed, name in _needs(found):
        add_owners(cluster, needed, {"metadata": {"name": name, "ownerReferences": owners}})
    return Ensured(found, created=False)


def _needs(job: Object) -> set[tuple[Kind, str]]:
    """What was made along with it: its settings, and the Service through which its pods find each other."""
    found = set()
    for template in templates_of(job):
        spec = template.get("spec", {})
        if spec.get("subdomain"):
            found.add((SERVICE, spec["subdomain"]))
        for volume in spec.get("volumes", ()):
            if volume["name"] == CONFIG_VOLUME and "configMap" in volume:
                found.add((CONFIG_MAP, volume["configMap"]["name"]))
    return found


def same_template(job: Object, body: Object) -> bool:
    """Whether both run in the same way."""
    return not _is_other(job, body)


def _is_other(job: Object, body: Object) -> bool:
    if job.get("kind", body["kind"]) != body["kind"]:
        return True
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
