"""The file store against a dictionary: any sequence of calls gives what the dictionary says."""

import shutil
import tempfile
import time
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from components.common.canonical import digest_bytes
from components.common.store.base import NotFoundError
from components.common.store.file import FileStore

# No key is the folder of another one: that, a file store cannot hold.
KEYS = st.sampled_from(["a", "a-b", "a.b", "b/a", "b/b/c", "b/b/d", "b/bb", "c/a=1/x_y"])
DATA = st.binary(max_size=40)


class FileStoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = FileStore(self.folder)
        self.model: dict[str, bytes] = {}
        self.old_tags: dict[str, str] = {}

    def teardown(self) -> None:
        assert list(self.store.leftovers(time.time() + 60)) == []
        shutil.rmtree(self.folder)

    @rule(key=KEYS, data=DATA)
    def put(self, key: str, data: bytes) -> None:
        self.store.put(key, data, digest=digest_bytes(data))
        self.model[key] = data

    @rule(key=KEYS, data=DATA)
    def create(self, key: str, data: bytes) -> None:
        assert self.store.create(key, data) == (key not in self.model)
        self.model.setdefault(key, data)

    @rule(key=KEYS, data=DATA)
    def swap(self, key: str, data: bytes) -> None:
        tag = self.store.read(key)[1] if key in self.model else None
        assert self.store.swap(key, data, tag=tag)
        self.model[key] = data

    @rule(key=KEYS)
    def remember_tag(self, key: str) -> None:
        if key in self.model:
            self.old_tags[key] = self.store.read(key)[1]

    @rule(key=KEYS, data=DATA)
    def swap_with_an_old_tag(self, key: str, data: bytes) -> None:
        if key in self.old_tags:
            fits = key in self.model and digest_bytes(self.model[key]) == self.old_tags[key]
            assert self.store.swap(key, data, tag=self.old_tags[key]) == fits
            if fits:
                self.model[key] = data

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.store.delete(key)
        self.model.pop(key, None)

    @rule(key=KEYS)
    def touch(self, key: str) -> None:
        assert self.store.touch(key) == (key in self.model)

    @rule(key=KEYS, offset=st.integers(0, 40), length=st.none() | st.integers(0, 40))
    def read_range(self, key: str, offset: int, length: int | None) -> None:
        data = self.model.get(key, b"")
        end = len(data) if length is None else offset + length
        if key in self.model and offset <= len(data) and end <= len(data):
            with self.store.open(key, offset=offset, length=length) as stream:
                assert stream.read() == data[offset:end]

    @rule(prefix=st.sampled_from(["", "a", "b", "b/", "b/b", "b/b/", "c/a=", "z"]))
    def list_prefix(self, prefix: str) -> None:
        found = [(info.key, info.size_bytes) for info in self.store.list(prefix)]
        assert found == sorted((key, len(data)) for key, data in self.model.items() if key.startswith(prefix))

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        assert [info.key for info in self.store.list()] == sorted(self.model)
        for key, data in self.model.items():
            assert self.store.read(key)[0] == data
            path = self.store.local_path(key)
            assert path is not None
            assert path.read_bytes() == data

    @rule(key=KEYS)
    def what_is_missing_says_so(self, key: str) -> None:
        if key in self.model:
            return
        assert self.store.stat(key) is None
        assert self.store.local_path(key) is None
        try:
            self.store.read(key)
        except NotFoundError:
            return
        raise AssertionError("a missing object was read")


TestFileStore = FileStoreMachine.TestCase
TestFileStore.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
