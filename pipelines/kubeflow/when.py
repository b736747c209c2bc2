"""When a recurring run starts: cron expressions as Kubeflow has them, and intervals."""

import re
from dataclasses import dataclass

from components.common.errors import InputError

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LEAST_S = 60

FIELDS = (
    ("second", 0, 59),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 6),
)
NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "day of the week": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}


@dataclass(frozen=True, slots=True)
class When:
    """When runs start: a cron expression, or seconds between two."""

    cron: str | None = None
    interval_s: int | None = None


def parse_when(cron: str | None, every: str | None) -> When:
    """Exactly one of the two. Raises `InputError` that says what is wrong with it."""
    if (cron is None) == (every is None):
        raise InputError("a schedule needs a time", expected='one of --cron "0 0 3 * * *" and --every 6h')
    if cron is not None:
        return When(cron=check_cron(cron))
    match = re.fullmatch(r"(\d+)([smhd])", (every or "").strip())
    seconds = int(match[1]) * UNITS_S[match[2]] if match else 0
    if seconds < LEAST_S:
        raise InputError(
            "this is no interval",
            where=f"--every {every}",
            expected="a minute or more, such as 30m, 6h or 1d",
        )
    return When(interval_s=seconds)


def check_cron(text: str) -> str:
    """Six fields, seconds first, as Kubeflow has them.

    Five would be accepted by the server, and mean something else than everywhere: seconds, minutes, hours, day, month.
    """
    where = f"--cron {text!r}"
    fields = text.split()
    if len(fields) == 5:
        raise InputError(
            "Kubeflow's cron expressions have six fields: seconds come first",
            where=where,
            found="five fields",
            todo=f'did you mean --cron "0 {text.strip()}"?',
        )
    if len(fields) != len(FIELDS):
        raise InputError(
            "this is no cron expression",
            where=where,
            expected="six fields: second minute hour day-of-month month day-of-week",
            found=f"{len(fields)} field{'s' if len(fields) != 1 else ''}",
        )
    for value, (name, low, high) in zip(fields, FIELDS, strict=True):
        for part in value.split(","):
            _check_part(part, name, low, high, where)
    return " ".join(fields)


def _check_part(part: str, name: str, low: int, high: int, where: str) -> None:
    span, slash, step = part.partition("/")
    good = not slash or (step.isdigit() and int(step) > 0)
    if span not in {"*", "?"}:
        ends = span.split("-")
        numbers = [_number(end, name) for end in ends]
        good = good and len(ends) <= 2 and all(n is not None and low <= n <= high for n in numbers)
        known = [n for n in numbers if n is not None]
        good = good and known == sorted(known)
    if not good:
        raise InputError(
            f"the {name} of the cron expression is wrong",
            where=where,
            expected=f"{low} to {high}, *, a range (1-5), a list (1,3) or steps (*/2)",
            found=repr(part),
        )


def _number(text: str, name: str) -> int | None:
    if text.isdigit():
        return int(text)
    names = NAMES.get(name, ())
    if text.lower() in names:
        return names.index(text.lower()) + (1 if name == "month" else 0)
    return None
