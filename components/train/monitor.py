"""What the workers say, shown to a person and kept for the launcher."""

from contextlib import ExitStack
from typing import Any

from components.common import errors
from components.common.errors import ConveyorError, StepError
from components.common.progress import Reporter, Task
from components.train.resolve import Recipe


class Monitor:
    """Receives messages (see `job.MessageKind`); one bar for each try, counted in images."""

    def __init__(self, reporter: Reporter, recipe: Recipe) -> None:
        self._reporter, self._recipe = reporter, recipe
        self._stack = ExitStack()
        self._task: Task | None = None
        self._step = 0
        self.done: dict[str, Any] | None = None
        """Fields of rank 0's last message: the model's reference and what was measured."""
        self.errors: list[ConveyorError] = []
        self.resumed_from: list[int] = []
        """Steps at which a try went on."""

    def __call__(self, kind: str, **fields: Any) -> None:
        if kind == "start":
            self._start(int(fields["step"]), resumed=bool(fields["resumed"]))
        elif kind in ("progress", "epoch"):
            self._advance(kind, fields)
        elif kind == "info":
            self._reporter.info(fields["message"])
        elif kind == "warning":
            self._reporter.warning(fields["message"])
        elif kind == "error":
            self.errors.append(_rebuild(fields))
        elif kind == "done":
            self.done = fields

    def end_try(self) -> None:
        """Take the bar away."""
        self._stack.close()
        self._task = None

    def _start(self, step: int, *, resumed: bool) -> None:
        self.end_try()
        self._step = step
        recipe = self._recipe
        if resumed:
            self.resumed_from.append(step)
            self._reporter.info(f"training goes on from step {step} of {recipe.total_steps}")
        total = (recipe.total_steps - step) * recipe.batch_size
        self._task = self._stack.enter_context(self._reporter.task("train", total=total, unit="images"))

    def _advance(self, kind: str, fields: dict[str, Any]) -> None:
        if self._task is None:
            return
        step = int(fields["step"])
        shown: dict[str, float | str] = {"epoch": f"{self._epoch(step)}/{self._recipe.epochs}"}
        loss = fields.get("loss", fields.get("train_loss"))
        if loss is not None:
            shown["loss"] = float(loss)
        if kind == "epoch" and "val_accuracy" in fields:
            shown["val_accuracy"] = float(fields["val_accuracy"])
        self._task.advance((step - self._step) * self._recipe.batch_size, **shown)
        self._step = step

    def _epoch(self, step: int) -> int:
        return max(1, -(-step // self._recipe.steps_per_epoch))


def _rebuild(fields: dict[str, Any]) -> ConveyorError:
    kind = getattr(errors, str(fields.get("error")), StepError)
    if not (isinstance(kind, type) and issubclass(kind, ConveyorError)):
        kind = StepError
    details = {name: fields.get(name) for name in ("where", "expected", "found", "todo")}
    return kind(str(fields["what"]), **details)
