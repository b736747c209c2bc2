"""The runner's executor inside the launcher's pod: every step in pods of its own."""

import json
import sys

from components.cluster.connect import connect
from components.cluster.launch import Launcher, check_reachable, own_owner
from components.cluster.relay import SUMMARY
from components.common.progress import Reporter
from components.common.sections import RootBase
from components.common.step import Outcome, StepInputs
from components.common.store import Store
from pipelines.executor import Executor
from pipelines.graph import Step


class OnKubernetes(Executor):
    """Each step as a Job; whoever launches the same step joins it."""

    def __init__(self, config: RootBase) -> None:
        check_reachable(config)
        cluster = connect(namespace=config.kubernetes.namespace)
        self._launcher = Launcher(cluster, owners=own_owner(cluster))

    def find(self, step: Step, config: RootBase, inputs: StepInputs, store: Store) -> Outcome | None:
        return self._launcher.find(step.program(), config, inputs, store)

    def run(
        self,
        step: Step,
        config: RootBase,
        inputs: StepInputs,
        store: Store,
        reporter: Reporter,
        *,
        run_id: str,
    ) -> Outcome:
        return self._launcher.run(step.program(), config, inputs, store, reporter, run_id=run_id)


def tell_summary(text: str) -> None:
    """Leave the run's last words in the launcher's log, for whoever follows it."""
    print(json.dumps({"level": SUMMARY, "message": text}), file=sys.stderr, flush=True)  # noqa: T201
