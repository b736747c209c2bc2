"""Errors that a person reads: what, where, expected, found, what to do; each with its exit code."""


class ConveyorError(Exception):
    """A failure with a cause that we can name; the command line prints it without a traceback.

    `what` says what went wrong. `where`, `expected`, `found` and `todo` are printed one a line when given.
    `exit_code` is the process's exit status (docs/cli.md lists them).
    """

    exit_code = 3

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        todo: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.found = found
        self.todo = todo

    def __str__(self) -> str:
        details = (
            ("where", self.where),
            ("expected", self.expected),
            ("found", self.found),
            ("to do", self.todo),
        )
        return "\n".join([self.what, *(f"  {name}: {text}" for name, text in details if text)])

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only details must survive the trip from a worker process to its parent.
        return _rebuild, (type(self), self.what, self.where, self.expected, self.found, self.todo)


def _rebuild(
    kind: type[ConveyorError],
    what: str,
    where: str | None,
    expected: str | None,
    found: str | None,
    todo: str | None,
) -> ConveyorError:
    return kind(what, where=where, expected=expected, found=found, todo=todo)


class InputError(ConveyorError):
    """The user's input or settings are wrong."""

    exit_code = 2


class StepError(ConveyorError):
    """A step could not finish for a reason that is not the user's input."""

    exit_code = 3


class GateRefusedError(ConveyorError):
    """Everything ran, and a promotion gate said no."""

    exit_code = 4


class StoreError(StepError):
    """The object store failed, refused, or holds something that it should not."""
