import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.common.blobs import Blobs
from components.common.canonical import canonical_json, digest_bytes
from components.common.errors import StoreError
from components.common.store.file import FileStore
from components.common.trees import Entry, Tree, decode, encode

ONE = digest_bytes(b"1")

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._+=-]{0,8}(/[a-z0-9]{1,4}){0,2}", fullmatch=True)
entries = st.dictionaries(
    names, st.tuples(st.binary(max_size=3).map(digest_bytes), st.integers(0, 2**50)), max_size=8
)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(FileStore(tmp_path))


def test_a_tree_lists_what_a_result_consists_of(blobs: Blobs) -> None:
    digest = Tree.write(blobs, {"b.json": (ONE, 1), "a/x.tar": blobs.put(b"22")})
    tree = Tree.read(blobs, digest)
    assert list(tree) == ["a/x.tar", "b.json"]
    assert tree["b.json"] == Entry(ONE, 1)
    assert "b.json" in tree
    assert "c" not in tree
    assert len(tree) == 2


def test_the_layout_is_this_one() -> None:
    data = encode({"b": (ONE, 1), "a": (ONE, 1)})
    assert (
        data
        == (
            '{"conveyor":"tree","entries":['
            f'{{"digest":"{ONE}","name":"a","size_bytes":1}},{{"digest":"{ONE}","name":"b","size_bytes":1}}'
            '],"version":1}'
        ).encode()
    )


@given(entries)
def test_reading_gives_what_was_written(mapping: dict[str, tuple[str, int]]) -> None:
    tree = decode(encode(mapping), where="here")
    assert {name: (entry.digest, entry.size_bytes) for name, entry in tree.entries.items()} == mapping


@given(entries, st.randoms(use_true_random=False))
def test_order_does_not_matter(mapping: dict[str, tuple[str, int]], random: Random) -> None:
    items = list(mapping.items())
    random.shuffle(items)
    assert encode(dict(items)) == encode(mapping)


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda c: st.lists(c) | st.dictionaries(st.text(max_size=8), c),
    )
)
def test_other_json_is_refused(value: object) -> None:
    with pytest.raises(StoreError):
        decode(json.dumps(value).encode(), where="here")


def test_what_is_no_tree_is_refused(blobs: Blobs) -> None:
    digest, _ = blobs.put(b"\x89PNG")
    with pytest.raises(StoreError, match="not a tree") as caught:
        Tree.read(blobs, digest)
    assert digest in str(caught.value)


def test_an_unknown_version_says_what_to_do() -> None:
    data = canonical_json({"conveyor": "tree", "version": 2, "entries": []})
    with pytest.raises(StoreError, match="unknown version") as caught:
        decode(data, where="here")
    assert "upgrade" in (caught.value.todo or "")


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "../a", "digest": ONE, "size_bytes": 1},
        {"name": "/a", "digest": ONE, "size_bytes": 1},
        {"name": "a", "digest": "x", "size_bytes": 1},
        {"name": "a", "digest": ONE, "size_bytes": -1},
        {"name": "a", "digest": ONE},
        {"name": "a", "digest": ONE, "size_bytes": 1, "more": 1},
        "a",
    ],
)
def test_damaged_entries_are_refused(entry: object) -> None:
    data = json.dumps({"conveyor": "tree", "version": 1, "entries": [entry]}).encode()
    with pytest.raises(StoreError, match="damaged tree"):
        decode(data, where="here")


def test_a_missing_entry_lists_what_there_is(blobs: Blobs) -> None:
    tree = decode(encode({"a": (ONE, 1), "b": (ONE, 1)}), where="here")
    with pytest.raises(StoreError, match="no entry c") as caught:
        tree["c"]
    assert caught.value.expected == "one of a, b"
