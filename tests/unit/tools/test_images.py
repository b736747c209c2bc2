"""The programs of the image builds, as far as they can be judged without an engine."""

import ctypes
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from images import apt_install, audit, bases, build, horovod_wheel, measure, pin, requirements, slim, sshd
from packaging.requirements import Requirement
from venv_setup.console import SetupError
from venv_setup.toolchain import compute_capabilities

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
        # DALI and its codecs are NVIDIA's too, and torch does not need them.
        other = (
            "boto",
            "nvidia-dali",
            "nvidia-nvimgcodec",
            "nvidia-nvjpeg2k",
            "nvidia-nvtiff",
            "nvidia-libnvcomp",
        )
        assert not any(line.startswith(other) for line in below)
        assert any(line.startswith("nvidia-nccl") for line in below)
        own = (tmp_path / "own-constraints.txt").read_text().splitlines()
        assert [line.partition("==")[0] for line in own] == ["pip", "scikit-learn", "setuptools"]

    def test_a_new_checker_changes_no_list(self, tmp_path: Path) -> None:
        lists = []
        for ruff in ("0.1", "0.2"):
            source, out = tmp_path / f"source-{ruff}", tmp_path / f"out-{ruff}"
            source.mkdir()
            out.mkdir()
            (source / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
            lock = re.sub(
                r"(?m)^(ruff|types-PyYAML|pytest-xdist)==.*$",
                rf"\1=={ruff}",
                (ROOT / "constraints.txt").read_text(),
            )
            assert f"\ntypes-PyYAML=={ruff}\n" in lock
            (source / "constraints.txt").write_text(lock)
            requirements.main([str(source), str(out), "train", "compress", "predict", "kubeflow"])
            lists.append({path.name: path.read_text() for path in out.iterdir()})
        assert lists[0] == lists[1]
        assert sorted(lists[0]) == [
            "constraints.txt",
            "own-constraints.txt",
            "requirements.txt",
            "torch-constraints.txt",
        ]

    def test_what_an_image_installs_stays_pinned(self, tmp_path: Path) -> None:
        """Dropped are only packages that nothing in an image needs, not even by way of others."""
        requirements.main([str(ROOT), str(tmp_path), "train", "compress", "predict", "kubeflow"])
        wanted = [Requirement(line) for line in (tmp_path / "requirements.txt").read_text().splitlines()]
        installed = {
            measure.normal(each.metadata["Name"]): each for each in importlib.metadata.distributions()
        }
        needed = measure.closure(installed, [each.name for each in wanted])
        pinned = {
            requirements.name_of(line) for line in (tmp_path / "constraints.txt").read_text().splitlines()
        }
        assert needed - pinned == set()


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

    def test_a_module_goes_with_what_it_was_compiled_to(self, tmp_path: Path) -> None:
        for name in ("a.py", "__pycache__/a.cpython-311.pyc", "__pycache__/ab.cpython-311.pyc"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("12345")
        assert slim.remove(tmp_path / "a.py") == 10
        assert [path.name for path in tmp_path.rglob("*.*")] == ["ab.cpython-311.pyc"]

    @pytest.mark.skipif(shutil.which("strip") is None, reason="no binutils here; the image's build has them")
    def test_a_stripped_library_is_smaller_and_works(self, tmp_path: Path) -> None:
        import pyarrow as pa

        library = next(Path(pa.__file__).parent.glob("libarrow_acero.so.*"))
        copy = tmp_path / "lib" / "copy.so"
        copy.parent.mkdir()
        copy.write_bytes(library.read_bytes())
        (tmp_path / "lib" / "link.so").symlink_to("copy.so")
        found = slim.stripped(tmp_path, ["strip lib/*.so  # symbols", "strip absent/*", "lib"])
        assert found == {copy}
        assert slim.strip(copy) == library.stat().st_size - copy.stat().st_size > 100_000
        pa.lib  # noqa: B018 - its libraries, which the copy's are, must be loaded first
        ctypes.CDLL(str(copy))

    @pytest.mark.parametrize(
        "table", sorted((ROOT / "tools/images/unused").glob("*.txt")), ids=lambda p: p.name
    )
    def test_committed_tables_name_no_library_of_ours(self, table: Path) -> None:
        assert "conveyor" not in table.read_text()


class TestBases:
    def test_of_the_dockerfile(self) -> None:
        assert bases.default_bases(bases.DOCKERFILE) == {"BASE": "python:3.11-slim-bookworm"}
        assert bases.default_bases(bases.MINIO_DOCKERFILE) == {"GO_BASE": "golang:1.25"}

    def test_every_first_image_is_a_base_that_can_be_pinned(self) -> None:
        for dockerfile in sorted((ROOT / "docker").rglob("Dockerfile")):
            froms = re.findall(r"^FROM (\S+)", dockerfile.read_text(), re.MULTILINE)
            stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile.read_text(), re.MULTILINE)
            known = {*stages, "scratch", "for-${ACCELERATOR}"}
            known |= {f"${{{name}}}" for name in bases.default_bases(dockerfile)}
            assert set(froms) <= known

    def test_a_base_needs_no_more_than_python_and_pip(self) -> None:
        """Debian's Python has no `ensurepip` of its own, which a virtual environment with pip asks for (python3-venv)."""
        made = re.findall(r"-m venv (\S+)", bases.DOCKERFILE.read_text())
        assert set(made) == {"--without-pip"}

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


class TestPin:
    @pytest.mark.parametrize(
        ("image", "entry"),
        [
            ("python:3.11", "python"),
            ("python:3.11", "docker.io/library/python"),
            ("registry.example/hub/python:3.11", "registry.example/hub/python"),
            ("127.0.0.1:5000/python:3.11", "127.0.0.1:5000/python"),
        ],
    )
    def test_the_registry_that_was_asked(self, image: str, entry: str) -> None:
        other = f"elsewhere.example/python@sha256:{'cd' * 32}"
        assert pin.digest_from(image, [other, f"{entry}@{DIGEST}"]) == DIGEST

    def test_another_registry_s_digest_is_none(self) -> None:
        assert pin.digest_from("python:3.11", [f"elsewhere.example/python@{DIGEST}"]) is None
        assert pin.digest_from("mirror.example/python:3.11", [f"python@{DIGEST}"]) is None


class TestApt:
    SOURCES = (
        "deb http://deb.debian.org/debian bookworm main\n"
        "deb http://deb.debian.org/debian-security bookworm-security main\n"
        "deb http://security.debian.org bookworm-security main\n"
        "URIs: http://deb.debian.org/debian\n"
        "URIs: https://security.debian.org/debian-security/\n"
    )

    def test_each_archive_has_its_mirror(self) -> None:
        found = apt_install.mirrored(self.SOURCES, "https://m.example/deb/", "https://m.example/sec")
        assert found == (
            "deb https://m.example/deb bookworm main\n"
            "deb https://m.example/sec bookworm-security main\n"
            "deb https://m.example/sec bookworm-security main\n"
            "URIs: https://m.example/deb\n"
            "URIs: https://m.example/sec/\n"
        )

    def test_no_mirror_changes_nothing(self) -> None:
        assert apt_install.mirrored(self.SOURCES, "", "") == self.SOURCES
        assert "debian.org/debian-security" in apt_install.mirrored(self.SOURCES, "https://m.example/deb", "")

    def test_licences_are_kept_and_other_documents_are_not(self, tmp_path: Path) -> None:
        for name in ("tini/copyright", "tini/changelog.gz", "gone/examples/x", "ssh/copyright"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "tini-doc").symlink_to("tini")
        apt_install.remove_documents(tmp_path)
        assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
            "ssh",
            "ssh/copyright",
            "tini",
            "tini-doc",
            "tini/copyright",
        ]


class TestSshd:
    def test_sessions_get_what_the_image_says_and_no_more(self) -> None:
        env = {"PATH": "/a:/b", "CUDA_VISIBLE_DEVICES": "", "PIP_INDEX_URL": "https://user:pass@x.example"}
        assert sshd.set_env(env) == "SetEnv PATH=/a:/b CUDA_VISIBLE_DEVICES=\n"

    def test_all_that_the_dockerfile_sets_for_those_who_run(self) -> None:
        text = bases.DOCKERFILE.read_text()
        named = re.findall(r"([A-Z_]+)=", " ".join(re.findall(r"^ENV ((?:.*\\\n)*.*)$", text, re.MULTILINE)))
        assert {name for name in named if not name.startswith("PIP_")} == set(sshd.KEPT)


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

    def test_a_name_alone_is_the_environments_value_or_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
        monkeypatch.setenv("APT_MIRROR", "")
        for name in ("CUDA_ARCHS", "BASE"):
            monkeypatch.delenv(name, raising=False)
        given = ["PIP_INDEX_URL", "APT_MIRROR", "CUDA_ARCHS", "BASE"]
        values = self.values(build.build_command("docker", "cpu", None, "host", given))
        assert (values["PIP_INDEX_URL"], values["APT_MIRROR"]) == ("https://index.example/simple", "")
        assert "CUDA_ARCHS" not in values  # empty, it would be no GPU at all
        assert values["BASE"].endswith("python:3.11-slim-bookworm")

    def test_a_quoted_value_arrives_as_one_argument(self, tmp_path: Path) -> None:
        """As docs/images.md has it: through make, the shell and the engine's command line."""
        engine = tmp_path / "engine"
        engine.write_text(
            f"#!{sys.executable}\nimport json, sys\nopen({str(tmp_path / 'argv')!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
        )
        engine.chmod(0o755)
        value = "TORCH_PIP_ARGS=--extra-index-url https://index.example/cpu"
        command = [
            "make",
            "image",
            f"PYTHON={sys.executable}",
            f"IMAGE_ARGS=--tag a.example/b:1 --build-arg '{value}'",
        ]
        env = {**os.environ, "CONTAINER_ENGINE": str(engine)}
        subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)
        argv = json.loads((tmp_path / "argv").read_text())
        assert argv[argv.index(value) - 1] == "--build-arg"
        assert argv[argv.index("--tag") + 1] == "a.example/b:1"

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

    def test_what_is_accepted_has_a_reason(self) -> None:
        assert audit.accepted("# why\n\nPYSEC-1 we never call it\nCVE-2  only on Windows\n") == [
            "PYSEC-1",
            "CVE-2",
        ]
        with pytest.raises(ValueError, match=r"accepted\.txt, line 2: .*'PYSEC-3'"):
            audit.accepted("PYSEC-1 reason\nPYSEC-3\n")
        audit.accepted(audit.ACCEPTED.read_text())

    def test_what_is_accepted_is_not_asked_for(self, tmp_path: Path) -> None:
        program = tmp_path / "pip-audit"
        program.write_text(
            f"#!{sys.executable}\nimport json, sys\n"
            "entry = {'name': ' '.join(sys.argv[1:])}\n"
            "open(sys.argv[sys.argv.index('--output') + 1], 'w').write(json.dumps({'dependencies': [entry]}))\n"
        )
        program.chmod(0o755)
        (entry,) = audit.ask(program, tmp_path / "lock", "osv", ["PYSEC-1", "CVE-2"])
        assert "--vulnerability-service osv --ignore-vuln PYSEC-1 --ignore-vuln CVE-2 " in entry["name"]

    def test_a_partial_answer_names_the_rest(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert audit.verdict([self.CLEAN, self.SKIPPED]) == 2
        assert "1 of 2 packages: b" in capsys.readouterr().err


def test_a_layer_s_bytes_are_those_of_a_gzipped_tar(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(os.urandom(100_000) + bytes(1_000_000))
    found = measure.layer_bytes(tmp_path / name for name in "ab")
    assert 200_000 < found < 210_000


def test_measure_follows_requirements() -> None:
    command = [sys.executable, "tools/images/measure.py"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert "pyarrow" in found["packages"]
    assert not {"torch", "numpy", "kfp", "nvidia-dali-cuda130", "triton"} & set(found["packages"])


def test_an_image_s_horovod_is_compiled_for_the_gpus_of_its_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From `ARG CUDA_ARCHS` to what nvcc is told, but for the compilation."""
    told = {}

    def build_(venv: Path, out: Path, accelerator: str, env: dict[str, str], *_: object) -> Path:
        told.update(env)
        raise SetupError("far enough")

    monkeypatch.setattr(horovod_wheel, "build", build_)
    text = bases.DOCKERFILE.read_text()
    (archs,) = re.findall(r"^ARG CUDA_ARCHS=(\S+)$", text, re.MULTILINE)
    assert '--cuda-archs "${CUDA_ARCHS}"' in text
    arguments = ["--venv", str(tmp_path), "--out", str(tmp_path), "--accelerator", "cuda"]
    assert horovod_wheel.main([*arguments, "--cuda-archs", archs]) == 1
    assert compute_capabilities(told) == ["75", "80", "86", "89", "90", "100", "120"]
