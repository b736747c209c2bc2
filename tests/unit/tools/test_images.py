"""The programs of the image builds, as far as they can be judged without an engine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from images import audit, bases, build, requirements, slim

ROOT = Path(__file__).parents[3]
DIGEST = f"sha256:{'ab' * 32}"


class TestRequirements:
    PROJECT: ClassVar[dict[str, Any]] = {
        "dependencies": ["numpy>=2"],
        "optional-dependencies": {
            "data": ["dali>=2; sys_platform == 'linux'"],
            "train": ["conveyor[data]", "torch>=2"],
            "all": ["conveyor[train,data]"],
        },
    }

    def test_own_extras_are_followed(self) -> None:
        assert requirements.requirements(self.PROJECT, ["all"]) == [
            "dali>=2; sys_platform == 'linux'",
            "numpy>=2",
            "torch>=2",
        ]

    def test_no_extra(self) -> None:
        assert requirements.requirements(self.PROJECT, []) == ["numpy>=2"]

    def test_this_project(self, tmp_path: Path) -> None:
        assert requirements.main([str(ROOT), str(tmp_path), "train", "compress", "predict", "kubeflow"]) == 0
        wanted = (tmp_path / "requirements.txt").read_text()
        assert "torch>=" in wanted
        assert "cloudpickle\n" in wanted
        assert "horovod" not in wanted
        assert "scikit-learn" not in wanted
        below = (tmp_path / "torch-constraints.txt").read_text().splitlines()
        assert {line.partition("==")[0] for line in below} >= {
            "torch",
            "torchvision",
            "numpy",
            "cmake",
            "pip",
        }
        assert set(below) < set((ROOT / "constraints.txt").read_text().splitlines())
        assert not any(line.startswith("boto") for line in below)


class TestSlim:
    TABLE = ("# what for", "cpu gpu/*.so", "data/*/ but kept  # a reason", "one/file", "absent/*")

    @pytest.fixture
    def site(self, tmp_path: Path) -> Path:
        for name in ("gpu/a.so", "gpu/a.py", "data/kept/x", "data/gone/x", "data/top.json", "one/file"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("12345")
        return tmp_path

    @pytest.mark.parametrize(
        ("accelerator", "expected"),
        [("cpu", ["data/gone", "gpu/a.so", "one/file"]), ("cuda", ["data/gone", "one/file"])],
    )
    def test_what_a_table_names(self, site: Path, accelerator: str, expected: list[str]) -> None:
        found = slim.listed(site, list(self.TABLE), accelerator)
        assert sorted(str(path.relative_to(site)) for path in found) == expected

    def test_modules_of_other_pythons(self, site: Path) -> None:
        (site / "a.cpython-399t-x86_64-linux-gnu.so").touch()
        (site / "a.abi3.so").touch()
        assert [path.name for path in slim.foreign(site)] == ["a.cpython-399t-x86_64-linux-gnu.so"]

    def test_removing_tells_bytes(self, site: Path) -> None:
        assert slim.remove(site / "data") == 15
        assert slim.remove(site / "one/file") == 5
        assert slim.remove(site / "absent") == 0
        assert not (site / "data").exists()

    @pytest.mark.parametrize(
        "table", sorted((ROOT / "tools/images/unused").glob("*.txt")), ids=lambda p: p.name
    )
    def test_committed_tables_name_no_library_of_ours(self, table: Path) -> None:
        assert "conveyor" not in table.read_text()


class TestBases:
    def test_of_the_dockerfile(self) -> None:
        assert bases.default_bases(bases.DOCKERFILE) == {"BASE": "python:3.11-slim-bookworm"}

    def test_lock_there_and_back(self, tmp_path: Path) -> None:
        lock = tmp_path / "bases.lock"
        lock.write_text(bases.lock_text({"python:3.11": DIGEST}))
        assert bases.read_lock(lock) == {"python:3.11": DIGEST}

    @pytest.mark.parametrize("line", ["python:3.11", "python:3.11 sha256:1", f"python:3.11 {DIGEST} more"])
    def test_a_damaged_lock_is_named(self, tmp_path: Path, line: str) -> None:
        (tmp_path / "bases.lock").write_text(f"# fine\n{line}\n")
        with pytest.raises(ValueError, match=r"bases\.lock, line 2"):
            bases.read_lock(tmp_path / "bases.lock")

    def test_no_lock(self, tmp_path: Path) -> None:
        assert bases.read_lock(tmp_path / "absent") == {}


class TestBuild:
    def values(self, command: list[str]) -> dict[str, str]:
        pairs = [command[i + 1] for i, word in enumerate(command) if word == "--build-arg"]
        return dict(pair.split("=", 1) for pair in pairs)

    def test_variants(self) -> None:
        for variant, (target, accelerator) in build.VARIANTS.items():
            command = build.build_command("docker", variant, None, "host", [])
            assert command[command.index("--target") + 1] == target
            assert self.values(command)["ACCELERATOR"] == accelerator
            assert command[-2:] == [f"conveyor:{variant}", "."]

    def test_the_lock_and_a_mirror(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        lock = tmp_path / "bases.lock"
        lock.write_text(bases.lock_text({"python:3.11-slim-bookworm": DIGEST}))
        monkeypatch.setattr(build, "LOCK", lock)
        monkeypatch.setenv("BASE_MIRROR", "registry.example/hub/")
        values = self.values(build.build_command("docker", "cpu", None, "host", []))
        assert values["BASE"] == f"registry.example/hub/python:3.11-slim-bookworm@{DIGEST}"

    def test_what_the_caller_gives_wins(self) -> None:
        values = self.values(
            build.build_command("docker", "cpu", None, "host", ["BASE=mine:1", "APT_MIRROR=a=b"])
        )
        assert values["BASE"] == "mine:1"
        assert values["APT_MIRROR"] == "a=b"

    def test_no_engine(self, tmp_path: Path) -> None:
        command = [sys.executable, "tools/images/build.py", "cpu"]
        env = {"PATH": str(tmp_path), "CONTAINER_ENGINE": "no-such-engine"}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "there is no no-such-engine on the PATH" in done.stderr


class TestAudit:
    CLEAN: ClassVar[dict[str, Any]] = {"name": "a", "version": "1", "vulns": []}
    SKIPPED: ClassVar[dict[str, Any]] = {"name": "b", "skip_reason": "not found"}
    VULNERABLE: ClassVar[dict[str, Any]] = {
        "name": "c",
        "version": "2",
        "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}],
    }

    def test_nothing_known(self) -> None:
        assert audit.verdict([self.CLEAN]) == 0

    def test_what_is_known_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert audit.verdict([self.CLEAN, self.VULNERABLE, self.SKIPPED]) == 1
        assert capsys.readouterr().out == "c 2: PYSEC-1, fixed in: 3\n"

    def test_no_answer_is_not_a_clean_bill(self, capsys: pytest.CaptureFixture[str]) -> None:
        # pip-audit itself ends with 0 here
        assert audit.verdict([self.SKIPPED]) == 2
        assert "nothing could be found out about 1 of 1" in capsys.readouterr().err

    def test_a_partial_answer_names_the_rest(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert audit.verdict([self.CLEAN, self.SKIPPED]) == 2
        assert "1 of 2 packages: b" in capsys.readouterr().err


def test_measure_follows_requirements() -> None:
    command = [sys.executable, "tools/images/measure.py"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert "pyarrow" in found["packages"]
    assert not {"torch", "numpy", "kfp", "nvidia-dali-cuda130", "triton"} & set(found["packages"])
