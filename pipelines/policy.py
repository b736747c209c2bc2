"""What may decide between the steps of a run; retraining is such a policy around the same runner."""

from collections.abc import Mapping

from components.common.refs import Ref
from pipelines.graph import Step
from pipelines.result import Run


class Policy:
    """Lets every run go to its end."""

    def inputs(self, step: Step, run: Run) -> Mapping[str, Ref]:
        """Inputs of `step` that no edge of the graph fills."""
        return {}

    def goes_on(self, step: Step, run: Run) -> bool:
        """Asked after each step, which is in `run.outcomes` already; may rename the run. False ends it there."""
        return True

    def ended(self, run: Run) -> None:
        """The run has ended, with or without an error; its report is written, its result not yet."""
