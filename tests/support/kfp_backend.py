"""What a Kubeflow Pipelines server remembers and refuses (API v2beta1), for `kfp_server.py`.

The backend itself cannot be had on a test machine, so this follows what is published of it (the swagger files, and the
source of its API server, release 2.17): the fields, states and nodes of a run that our client reads, and the refusals
that it can meet, with the same codes. What it does not model, no test relies on.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from support.kfp_checks import (
    EXISTS,
    INTERNAL,
    INVALID,
    Object,
    RefusedError,
    check_cron,
    check_parameters,
    found,
    known_fields,
    read_spec,
    tasks_in_order,
    visible,
)
from support.kfp_nodes import Nodes, now

UNFINISHED = frozenset({"PENDING", "RUNNING", "CANCELING"})

# Fields that a client may send; anything else is refused, as the server's JSON reader does.
RUNTIME_CONFIG = {"parameters", "pipeline_root"}
VERSION_REFERENCE = {"pipeline_id", "pipeline_version_id"}
EXPERIMENT = {"experiment_id", "display_name", "description", "created_at", "namespace", "storage_state"}
RUN = {
    *("experiment_id", "run_id", "display_name", "storage_state", "description", "pipeline_version_id"),
    *("pipeline_spec", "pipeline_version_reference", "runtime_config", "service_account", "created_at"),
    *("scheduled_at", "finished_at", "state", "error", "run_details", "recurring_run_id", "state_history"),
}
RECURRING = {
    *("recurring_run_id", "display_name", "description", "pipeline_version_id", "pipeline_spec", "trigger"),
    *("pipeline_version_reference", "runtime_config", "service_account", "max_concurrency", "mode"),
    *("created_at", "updated_at", "status", "error", "no_catchup", "namespace", "experiment_id"),
}


@dataclass
class Backend:
    """The state behind the API. Tests read it and set how runs end."""

    multi_user: bool = False
    fail_step: str | None = None
    """The step of the next runs that fails."""
    stay_running: bool = False
    """Runs do not go on however often they are asked for."""
    stuck_step: str | None = None
    """The step whose pod never starts."""
    on_end: Callable[[Object], None] | None = None
    """Called once with a run that ends, as its last task would write what it came to."""
    experiments: dict[str, Object] = field(default_factory=dict)
    pipelines: dict[str, Object] = field(default_factory=dict)
    versions: dict[str, Object] = field(default_factory=dict)
    runs: dict[str, Object] = field(default_factory=dict)
    recurring: dict[str, Object] = field(default_factory=dict)

    # --- pipelines
    def upload_pipeline(self, data: bytes, name: str, description: str, namespace: str) -> Object:
        spec = read_spec(data)
        if not name:
            raise RefusedError(INVALID, "name is required")
        if any(p["name"] == name and p["namespace"] == namespace for p in self.pipelines.values()):
            raise RefusedError(EXISTS, "Failed to create a pipeline and a pipeline version")
        pipeline_id = str(uuid.uuid4())
        pipeline: Object = {
            "pipeline_id": pipeline_id,
            "name": name,
            "display_name": name,
            "description": description,
            "namespace": namespace,
            "created_at": now(),
        }
        self.pipelines[pipeline_id] = pipeline
        self._add_version(pipeline_id, name, description, spec)
        return pipeline

    def upload_version(self, data: bytes, name: str, description: str, pipeline_id: str) -> Object:
        spec = read_spec(data)
        if pipeline_id not in self.pipelines:
            raise RefusedError(INVALID, "Failed to create a pipeline version")
        if any(v["pipeline_id"] == pipeline_id and v["name"] == name for v in self.versions.values()):
            raise RefusedError(EXISTS, "Failed to create a pipeline version")
        return self._add_version(pipeline_id, name, description, spec)

    def _add_version(self, pipeline_id: str, name: str, description: str, spec: Object) -> Object:
        version: Object = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": str(uuid.uuid4()),
            "name": name,
            "display_name": name,
            "description": description,
            "created_at": now(),
            "pipeline_spec": spec,
        }
        self.versions[version["pipeline_version_id"]] = version
        return version

    # --- experiments
    def create_experiment(self, body: Object) -> Object:
        known_fields("experiment", body, EXPERIMENT)
        name, namespace = body.get("display_name", ""), body.get("namespace", "")
        if not name:
            raise RefusedError(INVALID, "Experiment name is empty. Please specify a valid experiment name")
        if self.multi_user and not namespace:
            raise RefusedError(INVALID, "An experiment cannot have an empty namespace in multi-user mode")
        if any(e["display_name"] == name and e["namespace"] == namespace for e in self.experiments.values()):
            raise RefusedError(EXISTS, f"Failed to create a new experiment. The name {name} already exists")
        experiment = {
            "experiment_id": str(uuid.uuid4()),
            "display_name": name,
            "namespace": namespace,
            "created_at": now(),
            "storage_state": "AVAILABLE",
        }
        self.experiments[experiment["experiment_id"]] = experiment
        return experiment

    # --- runs
    def create_run(self, body: Object) -> Object:
        known_fields("run", body, RUN)
        if not body.get("display_name"):
            raise RefusedError(INVALID, "The run name is empty. Please specify a valid name")
        spec, parameters = self._what_runs(body)
        run = {
            "experiment_id": self._experiment(body),
            "run_id": str(uuid.uuid4()),
            "display_name": body["display_name"],
            "created_at": now(),
            "state": "PENDING",
            "pipeline_version_reference": body.get("pipeline_version_reference"),
            "runtime_config": body.get("runtime_config") or {},
            "service_account": body.get("service_account") or "pipeline-runner",
            "parameters": parameters,
            "waiting": tasks_in_order(spec),
            "run_details": {"task_details": []},
            "state_history": [],
        }
        self.runs[run["run_id"]] = run
        self._set_state(run, "PENDING")
        return visible(run)

    def get_run(self, run_id: str) -> Object:
        """The run as it is now; each time it is asked for, it has gone on by half a task."""
        run = found(self.runs, run_id, "run")
        if not self.stay_running and run["state"] in UNFINISHED:
            self._go_on(run)
        return visible(run)

    def terminate(self, run_id: str) -> Object:
        """The server has a state CANCELED and never sets it: the run is CANCELING, and then it has FAILED."""
        run = found(self.runs, run_id, "run")
        if run["state"] not in UNFINISHED:
            raise RefusedError(INVALID, f"Failed to terminate a run {run_id}. Row not found")
        self._set_state(run, "CANCELING")
        return {}

    def _go_on(self, run: Object) -> None:
        nodes = Nodes(run)
        if run["state"] != "CANCELING":
            self._set_state(run, "RUNNING")
        elif run["waiting"] and not run["run_details"]["task_details"]:
            self._set_state(run, "FAILED")
            return
        elif run["waiting"]:
            # Argo's deadline has passed: it kills what runs and makes no pod any more, but for its hooks: the task that
            # reports, here as in a run that failed, still runs.
            if not run.get("working") and run["waiting"][1:]:
                nodes.begin(run["waiting"][0], "PENDING")
            for node in nodes.of_state("RUNNING", "PENDING"):
                node["state"] = "FAILED"
            run["waiting"], run["working"] = run["waiting"][-1:], None
        working = run.get("working")
        if working is not None:
            if working == self.stuck_step:
                return
            failed = working == self.fail_step
            nodes.end(working, "FAILED" if failed else "SUCCEEDED")
            run["working"] = None
            if failed:
                # Only the task that reports runs however the others end.
                for name in run["waiting"][:-1]:
                    nodes.omit(name)
                run["waiting"] = run["waiting"][-1:]
        elif run["waiting"]:
            run["working"] = run["waiting"].pop(0)
            nodes.begin(run["working"], "PENDING" if run["working"] == self.stuck_step else "RUNNING")
        else:
            self._set_state(run, "FAILED" if nodes.of_state("FAILED") else "SUCCEEDED")
            if self.on_end is not None:
                self.on_end(run)

    def _set_state(self, run: Object, state: str) -> None:
        # Of a run that failed the server sets no error: which node it was is all that it says.
        history = run["state_history"]
        if not history or history[-1]["state"] != state:
            history.append({"update_time": now(), "state": state})
        run["state"] = state
        if state not in UNFINISHED:
            run["finished_at"] = now()

    # --- recurring runs
    def create_recurring(self, body: Object) -> Object:
        known_fields("recurring_run", body, RECURRING)
        if not body.get("display_name"):
            raise RefusedError(INTERNAL, "Recurring run's name cannot be empty")
        trigger = body.get("trigger") or {}
        known_fields("trigger", trigger, {"cron_schedule", "periodic_schedule"})
        cron = (trigger.get("cron_schedule") or {}).get("cron")
        if cron is not None:
            check_cron(cron)
        interval = (trigger.get("periodic_schedule") or {}).get("interval_second")
        if interval is not None and int(interval) < 1:
            raise RefusedError(INVALID, f"Found invalid period schedule interval {interval}")
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise RefusedError(
                INVALID, "Max concurrency of a recurring run must be at least 1 and at most 10"
            )
        if body.get("mode") not in {"ENABLE", "DISABLE"}:
            raise RefusedError(INVALID, "The mode of a recurring run must be ENABLE or DISABLE")
        self._what_runs(body)
        enabled = body["mode"] == "ENABLE"
        recurring = {
            **{key: value for key, value in body.items() if value is not None},
            "recurring_run_id": str(uuid.uuid4()),
            "experiment_id": self._experiment(body),
            "status": "ENABLED" if enabled else "DISABLED",
            "created_at": now(),
            "max_concurrency": str(body["max_concurrency"]),
        }
        self.recurring[recurring["recurring_run_id"]] = recurring
        return recurring

    def switch(self, recurring_run_id: str, *, enabled: bool) -> Object:
        recurring = found(self.recurring, recurring_run_id, "recurring run")
        recurring["mode"] = "ENABLE" if enabled else "DISABLE"
        recurring["status"] = "ENABLED" if enabled else "DISABLED"
        return {}

    def tick(self, recurring_run_id: str) -> Object:
        """It is time: a run of it is under way."""
        recurring = found(self.recurring, recurring_run_id, "recurring run")
        fields = ("experiment_id", "display_name", "pipeline_version_reference", "runtime_config")
        run_id = self.create_run({name: recurring[name] for name in fields})["run_id"]
        run = self.runs[run_id]
        run["recurring_run_id"] = recurring_run_id
        self._set_state(run, "RUNNING")
        return run

    def delete_recurring(self, recurring_run_id: str, propagation_policy: str) -> Object:
        """Its object in the cluster owns those of its runs, which go with it unless they are orphaned."""
        found(self.recurring, recurring_run_id, "recurring run")
        if propagation_policy not in {"", "FOREGROUND", "BACKGROUND", "ORPHAN"}:
            raise RefusedError(INVALID, f"invalid value for enum propagation_policy: {propagation_policy}")
        del self.recurring[recurring_run_id]
        if propagation_policy != "ORPHAN":
            for run_id, run in list(self.runs.items()):
                if run.get("recurring_run_id") == recurring_run_id and run["state"] in UNFINISHED:
                    del self.runs[run_id]
        return {}

    def _experiment(self, body: Object) -> str:
        wanted: str = body.get("experiment_id") or ""
        if wanted:
            found(self.experiments, wanted, "experiment")
            return wanted
        if self.multi_user:
            raise RefusedError(INVALID, "Experiment id can not be empty in multi-user mode")
        default = next((e for e in self.experiments.values() if e["display_name"] == "Default"), None)
        default = default or self.create_experiment({"display_name": "Default"})
        return str(default["experiment_id"])

    def _what_runs(self, body: Object) -> tuple[Object, Object]:
        """The spec that is meant, and the parameters, checked against it."""
        config = body.get("runtime_config") or {}
        known_fields("runtime_config", config, RUNTIME_CONFIG)
        reference = body.get("pipeline_version_reference")
        spec = body.get("pipeline_spec")
        if reference:
            known_fields("pipeline_version_reference", reference, VERSION_REFERENCE)
            version = self.versions.get(reference.get("pipeline_version_id", ""))
            if version is None:
                raise RefusedError(INTERNAL, "Failed to create a run due to error fetching manifest")
            spec = version["pipeline_spec"]
        if not spec:
            raise RefusedError(INTERNAL, "Failed to create a run due to error fetching manifest")
        parameters: Object = config.get("parameters") or {}
        check_parameters(spec, parameters)
        return spec, parameters
