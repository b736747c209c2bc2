"""How long each trouble is borne: told after a moment, given up after its grace."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from components.cluster.trouble import Trouble
from components.common.errors import ConveyorError

TELL_S = 2.0
FLAP_S = 5.0
"""A container that is started again and again runs for a moment in between: its trouble is the same one."""


class GivenUp(Exception):
    """The Job waits for what does not come."""

    def __init__(self, error: ConveyorError) -> None:
        super().__init__(error.what)
        self.error = error


class NeverStarted(GivenUp):
    """None of the Job's pods has begun, and by the look of it none will."""


@dataclass
class _Seen:
    """What is known of one trouble."""

    first: float
    since: float
    """When its grace began: anew as long as it is spared."""
    last: float
    told: str = ""
    """What was told of it."""


@dataclass
class Patience:
    """Bears the troubles of one Job. `timeout_s` is `kubernetes.start_timeout_s`, `warn` takes what is told."""

    timeout_s: float
    warn: Callable[[str], None]
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def forget(self) -> None:
        """Count anew."""
        self._seen.clear()

    def bear(self, troubles: Mapping[str, Trouble], now: float, *, spared: Collection[str] = ()) -> None:
        """Take in who (a uid) has which trouble at `now` (seconds of a clock that never goes back).

        Raises `GivenUp` for the first whose grace is over. What the training can do without, the `spared`, is told and
        nothing else.
        """
        current = {f"{uid}/{trouble.kind}": (uid, trouble) for uid, trouble in troubles.items()}
        self._seen = {
            key: seen for key, seen in self._seen.items() if key in current or now - seen.last < FLAP_S
        }
        for key, (uid, trouble) in current.items():
            seen = self._seen.setdefault(key, _Seen(now, now, now))
            seen.last = now
            if uid in spared:
                seen.since = now
                if not trouble.is_quiet or now - seen.first >= self.timeout_s:
                    self._tell(seen, trouble, now, "the training goes on without a pod")
                continue
            grace = self._grace(trouble)
            if now - seen.since >= grace:
                raise GivenUp(_given_up(trouble, grace))
            if not trouble.is_quiet:
                self._tell(seen, trouble, now, "waiting")

    def _grace(self, trouble: Trouble) -> float:
        if trouble.grace_s is None:
            return self.timeout_s + trouble.extra_s
        return trouble.grace_s if trouble.is_borne else min(trouble.grace_s, self.timeout_s)

    def _tell(self, seen: _Seen, trouble: Trouble, now: float, how: str) -> None:
        if seen.told or (now - seen.first < TELL_S and not trouble.is_borne):
            return
        # A hundred pods without their image are one piece of news.
        is_news = trouble.is_borne or all(other.told != trouble.error.what for other in self._seen.values())
        seen.told = trouble.error.what
        if not is_news:
            return
        error = trouble.error
        details = f"{error.where}: {error.found}" if error.found else error.where
        # Nothing else will tell what to do about it.
        cure = f"; {error.todo}" if trouble.is_borne and error.todo else ""
        self.warn(f"{how}: {error.what} ({details}){cure}")


def _given_up(trouble: Trouble, grace_s: float) -> ConveyorError:
    error = trouble.error
    if trouble.grace_s is None:
        error.what += f", for {grace_s:.0f} s now (kubernetes.start_timeout_s)"
    return error
