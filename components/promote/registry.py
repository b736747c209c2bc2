"""The registry: numbered versions that Triton and KServe load as they lie, and one pointer to the champion.

registry/<name>/champion.json                       which version serves; moved by compare-and-swap; its history
registry/<name>/versions/<N>/version.json           claims the number; what it is, where it comes from
registry/<name>/versions/<N>/decision.json          what the gates said
registry/<name>/versions/<N>/MODEL_CARD.md
registry/<name>/versions/<N>/<name>/config.pbtxt    from here on a Triton model repository
registry/<name>/versions/<N>/<name>/labels.txt
registry/<name>/versions/<N>/<name>/<N>/model.onnx
"""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from components.common.canonical import digest_bytes
from components.common.errors import InputError, StoreError
from components.common.store.base import DigestMismatchError, NotFoundError, Store
from components.promote.documents import Champion, Decision, Move, Version

ROOT = "registry/"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
READERS = 8


@dataclass(frozen=True, slots=True)
class Pointer:
    """The champion document with the tag that a swap needs; tag None: there is none yet."""

    document: Champion
    tag: str | None

    @property
    def champion(self) -> int | None:
        return self.document.champion


class Registry:
    """The versions of one registered model. Every call reads the store anew; nothing is cached."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, check_name(name)

    def pointer(self) -> Pointer:
        """The champion and its history. Raises `StoreError` for a damaged document."""
        try:
            data, tag = self.store.read(self._key("champion.json"))
        except NotFoundError:
            return Pointer(Champion(), None)
        return Pointer(Champion.from_json(data, where=self.where("champion.json")), tag)

    def move(self, pointer: Pointer, move: Move) -> bool:
        """Make a version the champion unless somebody else moved the pointer since; False then."""
        data = pointer.document.with_move(move).to_json()
        return self.store.swap(self._key("champion.json"), data, tag=pointer.tag)

    def numbers(self) -> list[int]:
        """All claimed version numbers, ascending."""
        prefix = self._key("versions/")
        found = (info.key.removeprefix(prefix).split("/") for info in self.store.list(prefix))
        return sorted(
            int(parts[0]) for parts in found if parts[1:] == ["version.json"] and parts[0].isdigit()
        )

    def version(self, number: int) -> Version:
        """Raises `InputError` that lists the versions there are."""
        found = self._read_version(number)
        if found is None:
            numbers = self.numbers()
            raise InputError(
                f"{self.name} has no version {number}",
                where=self.where(),
                expected=f"one of {_some(numbers)}" if numbers else "no version is registered yet",
                todo="conveyor models list",
            )
        return found

    def versions(self) -> list[Version]:
        """All versions, ascending."""
        with ThreadPoolExecutor(READERS) as pool:
            return [found for found in pool.map(self._read_version, self.numbers()) if found is not None]

    def find(self, challenger: str) -> Version | None:
        """The version that this challenger claimed earlier."""
        return self._find(challenger, self.numbers())

    def claim(self, draft: Version) -> Version:
        """The challenger's version: the one it has, or `draft` under the next free number.

        Of two challengers at once each gets its own number; the same challenger twice at once gets one.
        """
        while True:
            # One listing for both: whoever claimed since took the number that is tried, and is found the next time.
            numbers = self.numbers()
            own = self._find(draft.challenger, numbers)
            if own is not None:
                return own
            number = max(numbers, default=0) + 1
            version = draft.model_copy(update={"number": number})
            if self.store.create(self._key(f"versions/{number}/version.json"), version.to_json()):
                return version

    def decision(self, number: int) -> Decision | None:
        try:
            data, _ = self.store.read(self._key(f"versions/{number}/decision.json"))
        except NotFoundError:
            return None
        return Decision.from_json(data, where=self.where(f"versions/{number}/decision.json"))

    def write_decision(self, decision: Decision) -> None:
        self.store.put(self._key(f"versions/{decision.number}/decision.json"), decision.to_json())

    def write_text(self, number: int, name: str, text: str) -> None:
        """A file of a version; written anew where it differs or was half done."""
        self.store.put(self._key(f"versions/{number}/{name}"), text.encode())

    def read_text(self, number: int, name: str) -> str | None:
        try:
            return self.store.read(self._key(f"versions/{number}/{name}"))[0].decode()
        except NotFoundError:
            return None

    def write_model(self, version: Version, path: Path) -> None:
        """The ONNX file; its digest is checked on the way, and it is skipped where it is there already."""
        key = self.model_key(version.number)
        info = self.store.stat(key)
        if info is None or info.size_bytes != version.spec.size_bytes:
            self.store.put(key, path, digest=version.spec.model)

    def read_model(self, version: Version) -> bytes:
        """The ONNX file of a version. Raises `DigestMismatchError` where it is not what the version says."""
        key = self.model_key(version.number)
        with self.store.open(key) as stream:
            data = stream.read()
        if digest_bytes(data) != version.spec.model:
            raise DigestMismatchError(
                f"the model file of version {version.number} is not what was registered",
                where=f"{self.store.url}/{key}",
                expected=version.spec.model,
                found=digest_bytes(data),
                todo="roll back to another version, or train again",
            )
        return data

    def is_complete(self, number: int) -> bool:
        """Whether the model itself is there: a version whose promotion was killed early has only its claim."""
        return self.store.stat(self.model_key(number)) is not None

    def model_key(self, number: int) -> str:
        return self._key(f"versions/{number}/{self.name}/{number}/model.onnx")

    def where(self, name: str = "") -> str:
        """The place in the store, for messages."""
        return f"{self.store.url}/{self._key(name)}".rstrip("/")

    def _key(self, name: str) -> str:
        return f"{ROOT}{self.name}/{name}"

    def _read_version(self, number: int) -> Version | None:
        key = f"versions/{number}/version.json"
        try:
            data, _ = self.store.read(self._key(key))
        except NotFoundError:
            return None
        return Version.from_json(data, where=self.where(key))

    def _find(self, challenger: str, numbers: list[int]) -> Version | None:
        """Newest first: a rerun's own claim is among those."""
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(len(numbers), 0, -READERS):
                part = numbers[max(0, start - READERS) : start][::-1]
                for version in pool.map(self._read_version, part):
                    if version is not None and version.challenger == challenger:
                        return version
        return None


def check_name(name: str) -> str:
    """A registry's name becomes part of object names, and the model's name in Triton. Raises `InputError`."""
    if not NAME.fullmatch(name):
        raise InputError(
            "this is not a usable registry name",
            expected="up to 63 of A-Z, a-z, 0-9, '-' and '_', beginning with a letter or digit",
            found=repr(name),
            todo="set promote.registry",
        )
    return name


def list_registries(store: Store) -> list[str]:
    """Names of all registered models, sorted."""
    return sorted({info.key.split("/")[1] for info in store.list(ROOT) if info.key.count("/") >= 2})


def open_registry(store: Store, name: str | None = None) -> Registry:
    """The registry of that name, or the only one there is. Raises `InputError` that lists what there is."""
    names = list_registries(store)
    if name is None and len(names) == 1:
        return Registry(store, names[0])
    if name is not None and check_name(name) in names:
        return Registry(store, name)
    if not names:
        raise InputError(
            "no model is registered in this store",
            where=store.url,
            todo="conveyor run --source DIR trains and promotes one; --store names another store",
        )
    raise InputError(
        "the store has several registered models" if name is None else f"no model is registered as {name}",
        where=store.url,
        expected=f"--registry with one of {', '.join(names)}",
    )


def require_champion(registry: Registry) -> Version:
    """The version that serves. Raises `InputError` where none was promoted yet."""
    number = registry.pointer().champion
    if number is None:
        raise InputError(
            f"{registry.name} has no champion yet",
            where=registry.where(),
            todo="conveyor models list shows what there is; name a version, or promote one",
        )
    try:
        return registry.version(number)
    except InputError as error:
        raise StoreError(
            f"the champion pointer names version {number}, which is not there",
            where=registry.where("champion.json"),
            todo="conveyor models rollback --to another version",
        ) from error


def _some(numbers: list[int]) -> str:
    text = ", ".join(map(str, numbers[-10:]))
    return f"..., {text}" if len(numbers) > 10 else text
