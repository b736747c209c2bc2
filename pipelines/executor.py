"""Where a step of a run is carried out: in this process, or in a pod of its own."""

from abc import ABC, abstractmethod

from components.common.progress import Reporter
from components.common.sections import RootBase
from components.common.step import Outcome, StepInputs, execute, find
from components.common.store import Store
from pipelines.graph import Step


class Executor(ABC):
    """Carries out one step after the other for the runner."""

    @abstractmethod
    def find(self, step: Step, config: RootBase, inputs: StepInputs, store: Store) -> Outcome | None:
        """The step's result where it is published already; starts nothing."""

    @abstractmethod
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
        """The step's result, worked out where it is not published yet; the run's pointer is set to it."""


class Here(Executor):
    """In this process."""

    def find(self, step: Step, config: RootBase, inputs: StepInputs, store: Store) -> Outcome | None:
        return find(step.program(), config.section(step.name), inputs, store)

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
        return execute(step.program(), config.section(step.name), inputs, store, reporter, run_id=run_id)
