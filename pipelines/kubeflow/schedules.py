"""Recurring runs on a Kubeflow server: one a name, never two runs at once, nothing made up for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.common.errors import InputError
from pipelines.kubeflow.form import Value
from pipelines.kubeflow.pipeline import PIPELINE_NAME
from pipelines.kubeflow.server import Server
from pipelines.kubeflow.upload import Version, pipeline_id
from pipelines.kubeflow.when import When

PAGE = 100
MADE_BY = "Made by conveyor schedule."
"""The description of ours."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A recurring run."""

    name: str
    recurring_id: str
    when: str
    """A cron expression of six fields, or `every 3600 s`."""
    enabled: bool
    parameters: Mapping[str, Any]
    ours: bool
    """Made by `conveyor schedule`, or of our pipeline; any other is not touched."""


def schedules(server: Server, *, pipeline: str = PIPELINE_NAME) -> list[Schedule]:
    """All recurring runs of Conveyor that the server shows us, by name: made by us, or of the pipeline of that name."""
    return [schedule for schedule in _all(server, pipeline_id(server, pipeline)) if schedule.ours]


def _all(server: Server, our_pipeline: str | None) -> list[Schedule]:
    """All recurring runs that the server shows us, by name, whoever made them."""
    found: list[Any] = []
    token = ""
    while True:
        with server.calling() as client:
            answer = client.list_recurring_runs(page_token=token, page_size=PAGE, namespace=server.namespace)
        found += answer.recurring_runs or ()
        token = answer.next_page_token or ""
        if not token:
            break
    return sorted((_schedule(each, our_pipeline) for each in found), key=lambda schedule: schedule.name)


def find(server: Server, name: str) -> list[Schedule]:
    """Those of that name (one, unless somebody made more by hand).

    Raises `InputError` where there is none, or only somebody else's.
    """
    everyones = _all(server, pipeline_id(server, PIPELINE_NAME))
    found = [schedule for schedule in everyones if schedule.name == name]
    ours = [schedule for schedule in found if schedule.ours]
    if ours:
        return ours
    known = [schedule.name for schedule in everyones if schedule.ours]
    if found:
        raise _foreign(server, name)
    raise InputError(
        f"there is no schedule called {name}",
        where=server.host,
        expected=f"one of {', '.join(known)}" if known else None,
        todo="conveyor schedule list   shows them" if known else "conveyor schedule create NAME … makes one",
    )


def _foreign(server: Server, name: str) -> InputError:
    return InputError(
        f"the recurring run {name} is not Conveyor's, and is left alone",
        where=server.host,
        expected="one that conveyor schedule made, or one of Conveyor's pipeline",
        todo="take another name; conveyor schedule list   shows ours",
    )


def create(
    server: Server,
    name: str,
    when: When,
    version: Version,
    values: Mapping[str, Value],
    *,
    experiment_id: str,
    service_account: str | None = None,
) -> bool:
    """Make the schedule, in place of one of ours of the same name; returns whether there was one.

    The new one stands before the old one goes, so that a failure in between loses none. One that was paused stays so.
    Raises `InputError` where a recurring run of somebody else has the name.
    """
    old = [schedule for schedule in _all(server, version.pipeline_id) if schedule.name == name]
    if not all(schedule.ours for schedule in old):
        raise _foreign(server, name)
    enabled = all(schedule.enabled for schedule in old)
    with server.calling() as client:
        client.create_recurring_run(
            experiment_id,
            name,
            description=MADE_BY,
            cron_expression=when.cron,
            interval_second=when.interval_s,
            max_concurrency=1,
            no_catchup=True,
            params=dict(values),
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            enabled=enabled,
            service_account=service_account,
        )
    for schedule in old:
        _delete(server, schedule)
    return bool(old)


def switch(server: Server, name: str, *, enabled: bool) -> None:
    """Pause or resume it."""
    for schedule in find(server, name):
        with server.calling() as client:
            change = client.enable_recurring_run if enabled else client.disable_recurring_run
            change(schedule.recurring_id)


def remove(server: Server, name: str) -> None:
    """Remove it; its runs stay, also one that is under way (from KFP 2.16 on)."""
    for schedule in find(server, name):
        _delete(server, schedule)


def _delete(server: Server, schedule: Schedule) -> None:
    # Its runs belong to it in the cluster and would go with it; kfp's own method cannot say otherwise.
    with server.calling() as client:
        client._recurring_run_api.recurring_run_service_delete_recurring_run(
            schedule.recurring_id, propagation_policy="ORPHAN"
        )


def _schedule(each: Any, our_pipeline: str | None) -> Schedule:
    trigger = each.trigger
    when = "-"
    if trigger is not None and trigger.cron_schedule is not None and trigger.cron_schedule.cron:
        when = trigger.cron_schedule.cron
    elif trigger is not None and trigger.periodic_schedule is not None:
        when = f"every {trigger.periodic_schedule.interval_second} s"
    reference = each.pipeline_version_reference
    of_pipeline = reference.pipeline_id if reference is not None else None
    parameters = (each.runtime_config.parameters if each.runtime_config else None) or {}
    return Schedule(
        name=each.display_name,
        recurring_id=each.recurring_run_id,
        when=when,
        enabled=each.status == "ENABLED" or each.mode == "ENABLE",
        parameters=parameters,
        ours=each.description == MADE_BY or (our_pipeline is not None and of_pipeline == our_pipeline),
    )
