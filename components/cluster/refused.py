"""Why a Job's pods are not even made, or too few of them: what the controllers' events say."""

import re
from collections.abc import Sequence

from components.cluster.api import Object
from components.cluster.jobs import BACKOFF_S
from components.cluster.trouble import SHORT_S, Trouble, describe, last_warnings, place_of_job, short, time_of
from components.cluster.views import is_mpi
from components.common.errors import InputError, StepError

REFUSALS = ("FailedCreate", "MPIJobFailed", "ValidationError", "ErrResourceExists")
"""Reasons of events: the Job controller's, then the MPI operator's."""
TRANSIENT = re.compile(r"already exists$|the object has been modified")
"""The MPI operator asked with a list that was not the newest; it asks again."""
FOR_GOOD = re.compile(r"forbidden|denied|is invalid|Invalid value", re.IGNORECASE)


def trouble_of_job(job: Object, pods: Sequence[Object], events: Sequence[Object]) -> Trouble | None:
    """Why its pods are not even made. `events` are the Job's own (an MPIJob's launcher's too), the oldest first."""
    # What was refused before the newest pod came was cured since.
    newest = max((str(pod["metadata"].get("creationTimestamp", "")) for pod in pods), default="")
    refused = [
        event
        for event in events
        if event.get("reason") in REFUSALS
        and event.get("type", "Warning") == "Warning"
        and time_of(event)[:19] >= newest[:19]
        and (event["reason"] == "ErrResourceExists" or not TRANSIENT.search(str(event.get("message", ""))))
    ]
    if not refused:
        return None
    reason, message = refused[-1]["reason"], str(refused[-1].get("message", ""))
    where = place_of_job(job)
    if reason == "ValidationError":
        return Trouble(
            "spec",
            InputError(
                "the MPI operator refuses the MPIJob as it is written",
                where=where,
                found=short(message),
                todo="a setting below kubernetes: has a value that the operator does not allow (is its version 0.6 "
                "or newer?)",
            ),
            SHORT_S,
        )
    if reason == "ErrResourceExists":
        return Trouble(
            "name",
            StepError(
                "an object of the same name is in the MPI operator's way",
                where=where,
                found=short(message),
                todo="a Service, Secret, ConfigMap or Job of the name in the message is not this MPIJob's: delete it, "
                "if nothing needs it",
            ),
            3 * SHORT_S,  # what an earlier Job owned may be on its way out
        )
    return _refused(message, where)


def _refused(message: str, where: str) -> Trouble:
    if "exceeded quota" in message or "must specify limits" in message or "must specify requests" in message:
        return Trouble(
            "quota",
            StepError(
                "the namespace's quota leaves no room for its pods",
                where=where,
                found=short(message),
                todo="end or delete what is not needed, ask for less (kubernetes.resources), or for a larger quota: "
                "kubectl describe resourcequota",
            ),
        )
    if "violates PodSecurity" in message:
        return Trouble(
            "policy",
            InputError(
                "the namespace's Pod Security refuses its pods",
                where=where,
                found=short(message),
                todo="the message names what is refused; Conveyor's own pods pass restricted, so look at "
                "kubernetes.mounts and at what webhooks add",
            ),
            SHORT_S,
        )
    missing = re.search(r'serviceaccount "([^"]+)" not found', message)
    if missing:
        return Trouble(
            "account",
            InputError(
                f"there is no ServiceAccount {missing.group(1)}",
                where=where,
                found=short(message),
                todo="install Conveyor in this namespace first (its chart or manifests make the accounts), or set "
                "kubernetes.service_account and kubernetes.launcher_service_account",
            ),
            SHORT_S,
        )
    if FOR_GOOD.search(message):
        return Trouble(
            "admission",
            InputError("the cluster refuses its pods", where=where, found=short(message)),
            SHORT_S,
        )
    # A webhook or a server that is away may come back.
    return Trouble("admission", StepError("its pods cannot be made", where=where, found=short(message)))


def too_few(
    job: Object, *, made: int, started: int, wanted: int, events: Sequence[Object], after_deaths: bool
) -> Trouble:
    """Fewer pods than wanted run, and no pod says why. `after_deaths` allows for the controller's back-off."""
    todo = f"{describe(job)}   shows what the controller says"
    if is_mpi(job):
        todo += "; does the MPI operator run?"
    return Trouble(
        "slow",
        StepError(
            f"{started} of {wanted} pods have started" if made else "no pod was made",
            where=place_of_job(job),
            found=last_warnings(events) or "no event says why",
            todo=todo,
        ),
        extra_s=BACKOFF_S if after_deaths else 0.0,
    )
