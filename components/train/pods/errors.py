"""How a training pod ends other than well: exit codes of their own, for a Job's `podFailurePolicy`."""

from components.common.errors import ConveyorError, StepError


class GenerationOverError(ConveyorError):
    """One of the pods is gone, so all of them begin anew: nothing is wrong with this one."""

    exit_code = 75


class TrainingFailedError(StepError):
    """Beginning anew would not help."""

    exit_code = 76


def for_good(error: ConveyorError) -> ConveyorError:
    """`error` with the exit code that says that another try is of no use."""
    return TrainingFailedError(
        error.what, where=error.where, expected=error.expected, found=error.found, todo=error.todo
    )
