"""A step as a Job: adopt or create it by its record's key, follow it, and return what it published."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from components.cluster import jobs
from components.cluster.api import CONFIG_MAP, JOB, MPI_JOB, POD, SERVICE, Cluster, Kind, Object
from components.cluster.config import KubernetesConfig
from components.cluster.connect import connect
from components.cluster.follow import JobGone, JobWatch, WorkersGone
from components.cluster.mpi import mpi_job
from components.cluster.names import CONFIG_FILE, CONFIG_FOLDER, KEY, RUN, TEMPLATE, config_name, job_name
from components.cluster.objects import Ensured, ensure, ensure_job, template_digest
from components.cluster.patience import GivenUp, NeverStarted
from components.cluster.relay import Relay
from components.cluster.release import LetGo, give_up, kind_of
from components.cluster.rival import OTHER_KIND
from components.common import runs
from components.common.canonical import canonical_json
from components.common.errors import ConveyorError, InputError, StepError
from components.common.progress import Reporter
from components.common.records import Record
from components.common.sections import RootBase
from components.common.step import Outcome, StepInputs, find_record, make_outcome, make_plan
from components.common.store import Store

OWN_POD = "CONVEYOR_POD"
ROUNDS = 3
REPLACED_S = 3.0
"""Who replaces a Job waits until it has gone, and then makes the other."""


class Launcher:
    """Launches the steps of one run from inside the cluster. `owners` own what it makes (its own Job, usually)."""

    def __init__(self, cluster: Cluster, *, owners: tuple[Object, ...] = ()) -> None:
        self.cluster = cluster
        self.owners = owners

    def find(self, program: Any, config: RootBase, inputs: StepInputs, store: Store) -> Outcome | None:
        """The step's result where it is published already, under the key that its pod would compute."""
        started = time.monotonic()
        with pod_environment(program.NAME, config.kubernetes):
            plan = make_plan(program, config.section(program.NAME), inputs, store)
        record = find_record(store, program.NAME, plan.key)
        return make_outcome(store, record, "reused", started=started) if record is not None else None

    def run(
        self,
        program: Any,
        config: RootBase,
        inputs: StepInputs,
        store: Store,
        reporter: Reporter,
        *,
        run_id: str,
    ) -> Outcome:
        """As `components.common.step.execute`, with the work done in pods.

        Raises the step's own error, or one that says why its pods did not run or how they died.
        """
        started = time.monotonic()
        step, settings = program.NAME, config.kubernetes
        with pod_environment(step, settings):
            plan = make_plan(program, config.section(step), inputs, store)
        record = find_record(store, step, plan.key)
        if record is not None:
            return make_outcome(store, record, "reused", started=started, run_id=run_id)
        relay = Relay(reporter)
        files = _files(config, inputs)
        number = anew = 0
        was_replaced = False
        while number < ROUNDS:
            ensured = self._start(
                step,
                plan.key,
                files,
                settings,
                run_id,
                relay,
                replace_finished=number > 0,
                # Two launchers do not replace each other's for ever: who was replaced joins.
                replace_other=not was_replaced,
            )
            name = ensured.job["metadata"]["name"]
            verb = "started" if ensured.created else "adopted"
            relay.info(
                f"{step}: {verb} {ensured.job['kind']} {name} in the namespace {self.cluster.namespace}"
            )
            try:
                job = self._follow(ensured, settings, relay, last=number == ROUNDS - 1)
            except WorkersGone as gone:
                anew += 1
                self._make_anew(ensured, gone.error, relay, anew, settings.training.max_attempts)
                continue
            record = _published(store, step, plan.key, job) if job is not None else None
            if record is not None:
                return make_outcome(store, record, "done", started=started, run_id=run_id)
            if job is not None and ensured.created:
                break
            # Adopted, and finished long ago for a record that is gone; or replaced by somebody else: once more.
            was_replaced = job is None
            number += 1
        raise StepError(
            f"the Job of {step} succeeded, and its result is not in the store",
            where=store.url,
            todo="do the pods and the launcher use the same store? (store.url in the config)",
        )

    def _start(
        self,
        step: str,
        key: str,
        files: Mapping[str, str],
        settings: KubernetesConfig,
        run_id: str,
        relay: Relay,
        *,
        replace_finished: bool,
        replace_other: bool,
    ) -> Ensured:
        name = job_name(step, key)
        config_map = config_name(canonical_json(dict(files)).decode())
        kind, body = step_object(
            name, step, run_id, settings, config_map=config_map, key=key, files=files, owners=self.owners
        )
        ensure(
            self.cluster,
            CONFIG_MAP,
            jobs.config_map(config_map, files[CONFIG_FILE], settings, more=files, owners=self.owners),
        )
        if kind is JOB and step == jobs.TRAIN and settings.training.pods > 1:
            ensure(self.cluster, SERVICE, jobs.training_service(name, run_id, settings, owners=self.owners))
        return ensure_job(
            self.cluster,
            kind,
            body,
            relay,
            replace_finished=replace_finished,
            replace_other=replace_other,
            other=OTHER_KIND[kind] if step == jobs.TRAIN else None,
        )

    def _follow(
        self, ensured: Ensured, settings: KubernetesConfig, relay: Relay, *, last: bool
    ) -> Object | None:
        """The finished Job; None where it was replaced under our eyes, by another launcher."""
        name, kind = ensured.job["metadata"]["name"], kind_of(ensured.job)
        watch = JobWatch(self.cluster, kind, name, relay, settings.start_timeout_s)
        try:
            return watch.wait()
        except GivenUp as given:
            became = give_up(self.cluster, ensured.job, self.owners)
            # What never started held nothing, and nothing is to be gone on with.
            is_told = became != "deleted" or not isinstance(given, NeverStarted)
            raise (_told(given.error, ensured.job, became) if is_told else given.error) from None
        except JobGone:
            # Another launcher replaced it: join that one. Deleted by somebody who wants it to stop: stop.
            if last or not self._is_replaced(name):
                raise
            return None

    def _is_replaced(self, name: str) -> bool:
        """Whether there is another one in its place, of whichever kind, or is in a moment."""
        end = time.monotonic() + REPLACED_S
        while not any(self.cluster.find(kind, name) for kind in OTHER_KIND):
            if time.monotonic() > end:
                return False
            time.sleep(REPLACED_S / 10)
        return True

    def _make_anew(
        self, ensured: Ensured, error: ConveyorError, relay: Relay, number: int, most: int
    ) -> None:
        """Away with an MPIJob whose workers stay dead: the next one goes on from the newest checkpoint."""
        job = ensured.job
        if number > most:
            became = give_up(self.cluster, job, self.owners)
            again = f"after {number} tries (kubernetes.training.max_attempts)"
            error.where = f"{error.where}, {again}" if error.where else again
            raise error if became == "deleted" else _told(error, job, became)
        relay.warning(
            f"{error.what}; the operator does not replace it, so {job['metadata']['name']} is made anew and goes on "
            f"from its newest checkpoint ({number} of {most})"
        )
        self.cluster.delete(kind_of(job), job["metadata"]["name"], uid=job["metadata"]["uid"])


def _told(error: ConveyorError, job: Object, became: LetGo) -> ConveyorError:
    """The error, with what became of the Job."""
    kind, name, namespace = job["kind"], job["metadata"]["name"], job["metadata"].get("namespace")
    notes: dict[LetGo, str] = {
        "deleted": f"the {kind} was deleted, so that it holds nothing: run again to go on where it stopped",
        "left to others": f"the {kind} is left to the other launchers that follow it",
        "stays": f"the {kind} is still there, and holds what it holds: it changes too fast to be deleted without the "
        f"risk that somebody else follows it by now; kubectl -n {namespace} delete {kind.lower()} {name}",
    }
    error.todo = f"{error.todo}; {notes[became]}" if error.todo else notes[became]
    return error


def step_object(
    name: str,
    step: str,
    run_id: str,
    settings: KubernetesConfig,
    *,
    config_map: str,
    key: str,
    files: Mapping[str, str],
    owners: tuple[Object, ...],
) -> tuple[Kind, Object]:
    """The Job or MPIJob of a step, annotated with its key and the digest of its template."""
    more = [
        part
        for file in sorted(files)
        if file.startswith(INPUT)
        for part in ("--input", f"{file.removeprefix(INPUT).removesuffix('.json')}={CONFIG_FOLDER}/{file}")
    ]

    def build(
        run: str, config: str, annotations: Mapping[str, str], owned_by: tuple[Object, ...]
    ) -> tuple[Kind, Object]:
        args = jobs.step_args(step, run, *more)
        if step == jobs.TRAIN and settings.training.pods > 1:
            if settings.training.kind == "mpi-job":
                return MPI_JOB, mpi_job(
                    name,
                    run,
                    settings,
                    config_map=config,
                    command_args=args,
                    annotations=annotations,
                    owners=owned_by,
                )
            return JOB, jobs.training_job(
                name,
                run,
                settings,
                config_map=config,
                command_args=args,
                annotations=annotations,
                owners=owned_by,
            )
        return JOB, jobs.step_job(
            name,
            step,
            run,
            settings,
            config_map=config,
            command_args=args,
            annotations=annotations,
            owners=owned_by,
        )

    digest = template_digest(build("run", "config", {}, ())[1])
    return build(run_id, config_map, {KEY: key, TEMPLATE: digest}, owners)


INPUT = "input-"


def _files(config: RootBase, inputs: StepInputs) -> dict[str, str]:
    """What a step's ConfigMap holds: the effective config, and each input as it is named in the record's key."""
    found = {CONFIG_FILE: config_yaml(config)}
    for field in type(inputs).model_fields:
        ref = getattr(inputs, field)
        if ref is not None:
            found[f"{INPUT}{field}.json"] = ref.to_json().decode()
    return found


def config_yaml(config: RootBase) -> str:
    """The effective config, as a file that gives the same config again."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _published(store: Store, step: str, key: str, job: Object) -> Record | None:
    """What the Job's pod published: under our key; or, where the world changed in between (a newer champion, a source
    that grew), under the one that its run points to."""
    record = find_record(store, step, key)
    if record is not None:
        return record
    run = (job["metadata"].get("labels") or {}).get(RUN)
    pointer = runs.read_pointer(store, run, step) if run else None
    return find_record(store, step, pointer.key) if pointer else None


@contextmanager
def pod_environment(step: str, settings: KubernetesConfig) -> Iterator[None]:
    """The environment that a record's key depends on, as the step's pods have it."""
    told = jobs.step_env(step, settings)
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def own_owner(cluster: Cluster) -> tuple[Object, ...]:
    """What is to own the objects that this pod makes: what owns the pod, else the pod itself; nothing outside a pod."""
    name = os.environ.get(OWN_POD) or os.environ.get("HOSTNAME")
    pod = cluster.get(POD, name) if name else None
    if pod is None:
        return ()
    controllers = [o for o in pod["metadata"].get("ownerReferences") or [] if o.get("controller")]
    owner = (
        controllers[0]
        if controllers
        else {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        }
    )
    return ({name: owner[name] for name in ("apiVersion", "kind", "name", "uid")},)


def launch_step(
    program: Any, config: RootBase, inputs: StepInputs, store: Store, reporter: Reporter, *, run_id: str
) -> Outcome:
    """One step in pods of its own, launched from a pod (a Kubeflow task, say) with an account that may do so.

    `program` is the step's module `run.py`; the rest is as for `components.common.step.execute`.
    """
    check_reachable(config)
    cluster = connect(namespace=config.kubernetes.namespace)
    return Launcher(cluster, owners=own_owner(cluster)).run(
        program, config, inputs, store, reporter, run_id=run_id
    )


def check_reachable(config: RootBase) -> None:
    """Raises `InputError` for a store that only this machine has."""
    url = config.store.url
    if url.startswith("s3://"):
        return
    path = url.removeprefix("file://")
    if any(
        path == m.path or path.startswith(m.path + "/") for m in config.kubernetes.mounts if not m.read_only
    ):
        return
    raise InputError(
        "pods cannot reach this store",
        where="store.url",
        expected="s3://bucket/prefix, or a folder below one of kubernetes.mounts with read_only: false",
        found=repr(url),
        todo="set store.url (--store) and, for an own server, store.endpoint",
    )
