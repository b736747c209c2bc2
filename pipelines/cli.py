"""The command `conveyor`. Imports almost nothing itself, so that Ctrl-C is answered from the first moment on."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pipelines.graph import Graph

EXIT_INTERRUPTED = 130
WATCH, WAIT_FOR = "--watch", "--wait-for"
"""What a step's pod runs beside the step (components/common/watch.py), and before it."""


def invoke(arguments: Sequence[str], graph: "Graph | None" = None) -> int:
    """Run one command line and return its exit status. `graph` is the table of steps, if not the usual one."""
    from pipelines.app import invoke as run
    from pipelines.graph import GRAPH

    return run(arguments, graph or GRAPH)


def main() -> None:
    """What the installed command runs."""
    if sys.argv[1:2] == ["step"]:
        _step(sys.argv[2:])
    _answer_signals()
    status = invoke(sys.argv[1:])

    from components.common.failures import leave

    leave(status)


def _step(arguments: Sequence[str]) -> NoReturn:
    """What the containers of a step's pod run: each leaves a mark while it runs, and one waits for what that tells."""
    from components.common.watch import STEP, WAIT, mark_running, stand_by, unmark_running

    if WATCH in arguments:
        # Before anything large is imported: this container is there for as long as its step.
        if stand_by() is None:
            os._exit(0)
        invoke(["step", *arguments])
        # A Job's failure policy looks at every container's status; only the step's own shall say how it ended.
        status = 0
    else:
        _answer_signals(unmark_running)
        mark_running(WAIT if any(each.startswith(WAIT_FOR) for each in arguments) else STEP)
        try:
            status = invoke(["step", *arguments])
        finally:
            unmark_running()

    from components.common.failures import leave

    leave(status)


def _answer_signals(unmark: Callable[[], None] | None = None) -> None:
    """Before the first import has ended, and after the last word was said, there is nothing else to tidy up."""

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        if unmark is not None:
            unmark()
        os.write(2, b"interrupted\n")
        os._exit(EXIT_INTERRUPTED)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupted)


if __name__ == "__main__":
    main()
