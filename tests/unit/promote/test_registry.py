import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.canonical import digest_bytes
from components.common.errors import InputError, StoreError
from components.common.store import open_store
from components.common.store.base import DigestMismatchError
from components.models.spec import ModelSpec
from components.promote.documents import Action, Champion, Move, Version
from components.promote.registry import Registry, check_name, list_registries, open_registry, require_champion

MODEL = b"an ONNX file"
NOW = "2026-01-01T00:00:00+00:00"


def digest(name: object) -> str:
    return digest_bytes(str(name).encode())


def version(challenger: str = "one", number: int = 1, model: bytes = MODEL) -> Version:
    spec = ModelSpec(
        name="int8",
        model=digest_bytes(model),
        size_bytes=len(model),
        classes=("a", "b"),
        image_size=8,
        stored_size=8,
        channels=1,
        mean=(0.5,),
        std=(0.2,),
    )
    return Version(
        registry="digits",
        number=number,
        challenger=digest(challenger),
        created=NOW,
        spec=spec,
        metrics={"accuracy": 0.9},
        num_test=10,
        lineage={},
    )


def move(action: Action, before: int | None, after: int, model: int | None = None) -> Move:
    return Move(
        action=action,
        before=before,
        before_model=None if before is None else digest(before),
        after=after,
        after_model=digest(after if model is None else model),
        at=NOW,
        reason="a test",
    )


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(open_store(str(tmp_path)), "digits")


def test_numbers_count_up_and_a_challenger_keeps_its_own(registry: Registry) -> None:
    assert [registry.claim(version(name)).number for name in ("x", "y", "x", "z", "y")] == [1, 2, 1, 3, 2]
    assert registry.numbers() == [1, 2, 3]
    assert [v.challenger for v in registry.versions()] == [digest("x"), digest("y"), digest("z")]


def test_versions_beyond_nine_are_in_the_order_of_numbers(registry: Registry) -> None:
    for name in range(12):
        registry.claim(version(str(name)))
    assert registry.numbers() == list(range(1, 13))
    assert registry.claim(version("one more")).number == 13


def test_many_at_once_get_different_numbers_and_the_same_one_gets_one(registry: Registry) -> None:
    names = [f"challenger {i % 4}" for i in range(12)]
    barrier = threading.Barrier(len(names))

    def claim(name: str) -> tuple[str, int]:
        barrier.wait()
        return name, registry.claim(version(name)).number

    with ThreadPoolExecutor(len(names)) as pool:
        claimed = set(pool.map(claim, names))
    assert len(claimed) == 4
    assert {number for _, number in claimed} == {1, 2, 3, 4} == set(registry.numbers())


def test_the_pointer_moves_only_from_where_it_was_read(registry: Registry) -> None:
    before = registry.pointer()
    assert before.champion is None
    assert registry.move(before, move("promote", None, 1))
    assert not registry.move(before, move("promote", None, 2))
    after = registry.pointer()
    assert after.champion == 1
    assert registry.move(after, move("promote", 1, 2))
    assert [m.after for m in registry.pointer().document.moves] == [1, 2]


def test_a_model_file_is_checked_both_ways(registry: Registry, tmp_path: Path) -> None:
    claimed = registry.claim(version())
    assert not registry.is_complete(claimed.number)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"another file")
    with pytest.raises(DigestMismatchError):
        registry.write_model(claimed, path)
    path.write_bytes(MODEL)
    registry.write_model(claimed, path)
    assert registry.is_complete(claimed.number)
    assert registry.read_model(claimed) == MODEL
    registry.store.put(registry.model_key(claimed.number), b"x" * len(MODEL))
    with pytest.raises(DigestMismatchError, match="not what was registered"):
        registry.read_model(claimed)


def test_unknown_versions_and_names_say_what_there_is(registry: Registry) -> None:
    with pytest.raises(InputError, match="no model is registered in this store"):
        open_registry(registry.store)
    registry.claim(version())
    with pytest.raises(InputError, match="no version 7") as raised:
        registry.version(7)
    assert raised.value.expected == "one of 1"
    assert open_registry(registry.store).name == "digits"
    with pytest.raises(InputError, match="no model is registered as letters"):
        open_registry(registry.store, "letters")
    Registry(registry.store, "letters").claim(version())
    assert list_registries(registry.store) == ["digits", "letters"]
    with pytest.raises(InputError, match="several registered models"):
        open_registry(registry.store)
    with pytest.raises(InputError, match="no champion yet"):
        require_champion(registry)


@pytest.mark.parametrize("name", ["", "a/b", "-x", "ä", "a" * 64, "a b", "..", "a.b"])
def test_names_that_no_store_and_no_server_could_hold(name: str) -> None:
    with pytest.raises(InputError, match="registry name"):
        check_name(name)


def test_damaged_and_newer_documents_are_named(registry: Registry) -> None:
    registry.claim(version())
    registry.store.put("registry/digits/champion.json", b"{")
    with pytest.raises(StoreError, match="not a champion document"):
        registry.pointer()
    value = json.loads(version(number=1).to_json()) | {"version": 2}
    registry.store.put("registry/digits/versions/1/version.json", json.dumps(value).encode())
    with pytest.raises(StoreError, match="not a model version") as raised:
        registry.version(1)
    assert "another release" in str(raised.value)


def test_a_pointer_to_nothing_is_a_damaged_store(registry: Registry) -> None:
    registry.move(registry.pointer(), move("promote", None, 4))
    with pytest.raises(StoreError, match="version 4, which is not there"):
        require_champion(registry)


def history(*moves: Move) -> Champion:
    document = Champion()
    for each in moves:
        document = document.with_move(each)
    return document


def test_rolled_back_is_the_last_word_about_a_model() -> None:
    document = history(move("promote", None, 1), move("promote", 1, 2), move("rollback", 2, 1))
    assert document.champion == 1
    assert document.rolled_back(digest(2))
    assert not document.rolled_back(digest(1))
    assert not document.rolled_back(digest("never seen"))
    forced = document.with_move(move("force", 1, 2))
    assert not forced.rolled_back(digest(2))
    # The same file under another number is still the same file.
    assert document.rolled_back(digest(2))
    again = document.with_move(move("force", 1, 5, model=2))
    assert not again.rolled_back(digest(2))


def test_going_back_twice_goes_two_champions_back() -> None:
    document = history(
        move("promote", None, 1), move("promote", 1, 2), move("promote", 2, 3), move("rollback", 3, 2)
    )
    previous = document.previous()
    assert previous is not None
    assert previous.after == 1
    end = document.with_move(move("rollback", 2, 1))
    assert end.previous() is None


def test_a_superseded_champion_was_not_rolled_back() -> None:
    document = history(move("promote", None, 1), move("promote", 1, 2))
    assert not document.rolled_back(digest(1))
    assert document.promotion_of(1) == document.moves[0]
    assert document.promotion_of(9) is None


@given(st.lists(st.tuples(st.sampled_from(["promote", "force", "rollback"]), st.integers(1, 5)), max_size=12))
def test_any_history_survives_being_written(steps: list[tuple[Any, int]]) -> None:
    document = Champion()
    for action, number in steps:
        document = document.with_move(move(action, document.champion, number))
    assert Champion.from_json(document.to_json(), where="here") == document
    previous = document.previous()
    if previous is not None:
        assert previous.after != document.champion
        assert not document.rolled_back(previous.after_model)
    if document.champion is not None:
        assert not document.rolled_back(digest(document.champion))
