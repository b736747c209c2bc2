"""Recurring runs on a Kubeflow server: one a name, never two runs at once, nothing made up for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.common.errors import InputError
from pipelines.kubeflow.form import Value
from pipelines.kubeflow.server import Server
from pipelines.kubeflow.upload import Version
from pipelines.kubeflow.when import When

PAGE = 100


@dataclass(frozen=True, slots=True)
class Schedule:
    """A recurring run."""

    name: str
    recurring_id: str
    when: str
    """A cron expression of six fields, or `every 3600 s`."""
    enabled: bool
    parameters: Mapping[str, Any]


def schedules(server: Server, *, experiment_id: str | None = None) -> list[Schedule]:
    """All recurring runs of a Conveyor pipeline that the server shows us, by name."""
    found: list[Any] = []
    token = ""
    while True:
        with server.calling() as client:
            answer = client.list_recurring_runs(
                page_token=token, page_size=PAGE, namespace=server.namespace, experiment_id=experiment_id
            )
        found += answer.recurring_runs or ()
        token = answer.next_page_token or ""
        if not token:
            break
    return sorted((_schedule(each) for each in found), key=lambda schedule: schedule.name)


def find(server: Server, name: str) -> list[Schedule]:
    """Those of that name (one, unless somebody made more by hand). Raises `InputError` where there is none."""
    known = schedules(server)
    found = [schedule for schedule in known if schedule.name == name]
    if not found:
        raise InputError(
            f"there is no schedule called {name}",
            where=server.host,
            expected=f"one of {', '.join(schedule.name for schedule in known)}" if known else None,
            todo="conveyor schedule list   shows them"
            if known
            else "conveyor schedule create NAME … makes one",
        )
    return found


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
    """Make the schedule, in place of one of the same name; returns whether there was one.

    The new one stands before the old one goes, so that a failure in between loses none. One that was paused stays so.
    """
    old = [schedule for schedule in schedules(server) if schedule.name == name]
    enabled = all(schedule.enabled for schedule in old)
    with server.calling() as client:
        client.create_recurring_run(
            experiment_id,
            name,
            description="Made by conveyor schedule.",
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
            client.delete_recurring_run(schedule.recurring_id)
    return bool(old)


def switch(server: Server, name: str, *, enabled: bool) -> None:
    """Pause or resume it."""
    for schedule in find(server, name):
        with server.calling() as client:
            change = client.enable_recurring_run if enabled else client.disable_recurring_run
            change(schedule.recurring_id)


def remove(server: Server, name: str) -> None:
    """Remove it; its runs stay."""
    for schedule in find(server, name):
        with server.calling() as client:
            client.delete_recurring_run(schedule.recurring_id)


def _schedule(each: Any) -> Schedule:
    trigger = each.trigger
    when = "-"
    if trigger is not None and trigger.cron_schedule is not None and trigger.cron_schedule.cron:
        when = trigger.cron_schedule.cron
    elif trigger is not None and trigger.periodic_schedule is not None:
        when = f"every {trigger.periodic_schedule.interval_second} s"
    parameters = (each.runtime_config.parameters if each.runtime_config else None) or {}
    return Schedule(
        name=each.display_name,
        recurring_id=each.recurring_run_id,
        when=when,
        enabled=each.status == "ENABLED" or each.mode == "ENABLE",
        parameters=parameters,
    )
