"""The generations of one training: counted in the store, so that a training that comes no further ends by itself.

`generations/<key>.json` says how many were begun, from which step the last one went on, and how many in a row began
where the one before it had begun. It is changed by conditional writes and removed when the training is done.
"""

import json
import secrets
from dataclasses import asdict, dataclass, replace

from components.common.canonical import canonical_json
from components.common.errors import StepError
from components.common.store.base import NotFoundError, Store
from components.train.pods.errors import TrainingFailedError

TRIES = 20


@dataclass(frozen=True, slots=True)
class Generations:
    """What is known of them; the document in the store."""

    begun: int = 0
    step: int = -1
    """Of the checkpoint that the last one went on from; -1 where there was none."""
    fruitless: int = 0
    """Restarts in a row that found no newer checkpoint."""
    ended: str = ""
    """Why the last one that is known to have ended did."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One of them. The name has a random part: two launchers of one training never agree on it by chance."""

    number: int
    name: str


def document(key: str) -> str:
    return f"generations/{key}.json"


def begin_generation(store: Store, key: str, *, step: int, max_restarts: int) -> Generation:
    """Note that a generation begins from the checkpoint of `step` (-1: from the start).

    Raises `TrainingFailedError` where `max_restarts` restarts in a row came no further, and forgets them: who starts
    the training once more wants it tried once more.
    """
    for _ in range(TRIES):
        known, tag = _read(store, key)
        fruitless = known.fruitless + 1 if known.begun and step <= known.step else 0
        if fruitless > max_restarts:
            store.delete(document(key))
            raise TrainingFailedError(
                "the training comes no further: its pods keep dying before the next checkpoint",
                where=f"after {fruitless} generations that went on from step {max(step, 0)}, {known.begun} in all",
                found=f"the last one ended since {known.ended}" if known.ended else None,
                todo="see the pods' logs and events; where memory runs out, give them more or lower "
                "train.batch_size; a smaller train.checkpoint.interval_s keeps more of a short life; then start "
                "the training again: it goes on from the newest checkpoint",
            )
        new = replace(known, begun=known.begun + 1, step=step, fruitless=fruitless)
        if _write(store, key, new, tag):
            return Generation(new.begun, f"{new.begun}-{secrets.token_hex(4)}")
    raise StepError(
        "several launchers of one training begin generations at once",
        where=f"{store.url}/{document(key)}",
        todo="stop all but one of them",
    )


def end_generation(store: Store, key: str, why: str) -> None:
    """Note why the generation ended, for the message that may follow."""
    known, tag = _read(store, key)
    # Where another one began meanwhile, its reason is the better one.
    _write(store, key, replace(known, ended=why), tag)


def forget_generations(store: Store, key: str) -> None:
    """The training is done."""
    store.delete(document(key))


def _read(store: Store, key: str) -> tuple[Generations, str | None]:
    try:
        data, tag = store.read(document(key))
    except NotFoundError:
        return Generations(), None
    try:
        value = json.loads(data)
        if value.pop("version") != 1:
            raise ValueError("unknown version")
        return Generations(**value), tag
    except (ValueError, KeyError, TypeError, AttributeError):
        return Generations(), tag  # damaged: counting begins anew


def _write(store: Store, key: str, known: Generations, tag: str | None) -> bool:
    return store.swap(document(key), canonical_json({"version": 1, **asdict(known)}), tag=tag)
