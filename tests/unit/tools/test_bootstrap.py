"""The parts of set-up that can be judged without installing anything."""

import io
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from venv_setup.console import Console, SetupError, clock, describe
from venv_setup.horovod import (
    VERSION,
    TorchBuild,
    build_environment,
    cache_key,
    cached_wheel,
    locked,
    parse_torch_build,
    publish_wheel,
)
from venv_setup.stamp import (
    Stamp,
    clear_stamp,
    digest_of,
    is_in_its_place,
    is_whole,
    read_stamp,
    remove_half_installed,
    write_stamp,
)
from venv_setup.toolchain import cmake_suffices, find_compiler, find_cuda_home, gxx_major, system_cmake

ROOT = Path(__file__).parents[3]
CUDA = TorchBuild("2.13.0+cu130", "13.0")
CPU = TorchBuild("2.13.0+cpu", None)
GXX_12 = "g++ (Debian 12.2.0-14) 12.2.0\nCopyright (C) 2022 Free Software Foundation, Inc."


def program(folder: Path, name: str, says: str) -> Path:
    """An executable that prints `says`."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n/bin/cat <<'X'\n{says}\nX\n")
    path.chmod(0o755)
    return path


def wheel(folder: Path, content: str = "x = 1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"horovod-{VERSION}-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("horovod/__init__.py", content)
    return path


class TestCacheKey:
    def test_names_python_torch_machine_and_backend(self) -> None:
        key = cache_key(python="3.11", torch=CPU, machine="x86_64", backend="gloo")
        assert key == f"horovod-{VERSION}-cp311-torch2.13.0+cpu-x86_64-gloo"

    def test_names_the_gpus_that_kernels_are_for(self) -> None:
        key = cache_key(
            python="3.11", torch=CUDA, machine="x86_64", backend="nccl", capabilities=["80", "90"]
        )
        assert key == f"horovod-{VERSION}-cp311-torch2.13.0+cu130-x86_64-nccl-80-90"

    def test_differs_with_each(self) -> None:
        keys = {
            cache_key(python=python, torch=torch, machine=machine, backend=backend)
            for python in ("3.11", "3.12")
            for torch in (CPU, CUDA)
            for machine in ("x86_64", "aarch64")
            for backend in ("gloo", "nccl")
        }
        assert len(keys) == 16

    def test_torch_build_is_read_from_its_version_file(self) -> None:
        text = "from typing import Optional\n__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\n"
        assert parse_torch_build(text) == CUDA
        assert parse_torch_build("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n") == CPU
        with pytest.raises(ValueError, match="__version__"):
            parse_torch_build("")

    def test_the_installed_torch_can_be_read(self) -> None:
        import torch

        text = (Path(torch.__file__).parent / "version.py").read_text()
        assert parse_torch_build(text) == TorchBuild(torch.__version__, torch.version.cuda)


class TestCache:
    def test_a_published_wheel_is_found_and_its_folder_holds_nothing_else(self, tmp_path: Path) -> None:
        published = publish_wheel(tmp_path / "cache", "key", wheel(tmp_path / "out"))
        assert cached_wheel(tmp_path / "cache", "key") == published
        assert [path.name for path in (tmp_path / "cache" / "wheels").iterdir()] == ["key"]

    def test_the_first_writer_wins(self, tmp_path: Path) -> None:
        first = publish_wheel(tmp_path / "cache", "key", wheel(tmp_path / "a", "first = 1"))
        before = first.read_bytes()
        publish_wheel(tmp_path / "cache", "key", wheel(tmp_path / "b", "second = 2"))
        assert first.read_bytes() == before

    def test_a_damaged_wheel_is_removed(self, tmp_path: Path) -> None:
        published = publish_wheel(tmp_path / "cache", "key", wheel(tmp_path / "out"))
        published.write_bytes(published.read_bytes()[:40])
        assert cached_wheel(tmp_path / "cache", "key") is None
        assert not published.parent.exists()

    def test_a_lock_is_held_by_one_and_the_other_says_that_it_waits(self, tmp_path: Path) -> None:
        said = io.StringIO()
        entered = threading.Event()

        def second() -> None:
            with locked(tmp_path / "lock", Console(1, said), "building"):
                entered.set()

        with locked(tmp_path / "lock", Console(1, io.StringIO()), "building"):
            thread = threading.Thread(target=second)
            thread.start()
            while "waiting for it" not in said.getvalue():
                assert thread.is_alive()
            assert not entered.is_set()
        thread.join()
        assert entered.is_set()


class TestToolchain:
    def test_an_empty_path_has_no_compiler_and_says_what_to_install(self, tmp_path: Path) -> None:
        compiler = find_compiler({"PATH": str(tmp_path)})
        assert compiler.path is None
        assert "apt-get install g++" in str(compiler.problem)

    def test_an_old_compiler_and_a_missing_make_are_named(self, tmp_path: Path) -> None:
        program(tmp_path, "g++", GXX_12.replace("12.2.0", "9.4.0"))
        assert "version 9" in str(find_compiler({"PATH": str(tmp_path)}).problem)
        program(tmp_path, "g++", GXX_12)
        assert "no make" in str(find_compiler({"PATH": str(tmp_path)}).problem)
        program(tmp_path, "make", "")
        assert find_compiler({"PATH": str(tmp_path)}).path == str(tmp_path / "g++")

    def test_missing_python_headers_are_named(self, tmp_path: Path) -> None:
        program(tmp_path, "g++", GXX_12)
        program(tmp_path, "make", "")
        assert "python3-dev" in str(find_compiler({"PATH": str(tmp_path)}, include=tmp_path).problem)

    def test_cxx_is_honoured(self, tmp_path: Path) -> None:
        program(tmp_path, "my-g++", GXX_12)
        program(tmp_path, "make", "")
        assert find_compiler({"PATH": str(tmp_path), "CXX": "my-g++"}).path == str(tmp_path / "my-g++")

    def test_gxx_major(self) -> None:
        assert gxx_major(GXX_12) == 12
        assert gxx_major("Debian clang version 14.0.6") is None

    @pytest.mark.parametrize(
        ("text", "enough"),
        [
            ("cmake version 3.25.1\n", True),
            ("cmake version 3.21.0", True),
            ("cmake version 3.20.6", False),
            ("cmake version 4.1.0-rc1", True),
            ("", False),
        ],
    )
    def test_cmake_from_3_21_on_is_enough(self, text: str, enough: bool) -> None:
        assert cmake_suffices(text) is enough

    def test_a_missing_or_old_cmake_comes_from_the_package_index(self, tmp_path: Path) -> None:
        assert system_cmake({"PATH": str(tmp_path)}) is None
        program(tmp_path, "cmake", "cmake version 3.18.4")
        assert system_cmake({"PATH": str(tmp_path)}) is None
        new = program(tmp_path, "cmake", "cmake version 3.25.1")
        assert system_cmake({"PATH": str(tmp_path)}) == str(new)

    def test_cuda_home_counts_only_with_nvcc_in_it(self, tmp_path: Path) -> None:
        env = {"PATH": str(tmp_path), "CUDA_HOME": str(tmp_path / "cuda")}
        assert find_cuda_home(env) != tmp_path / "cuda"
        (tmp_path / "cuda" / "bin").mkdir(parents=True)
        program(tmp_path / "cuda" / "bin", "nvcc", "Cuda compilation tools, release 13.0, V13.0.88")
        assert find_cuda_home(env) == tmp_path / "cuda"


class TestBuildEnvironment:
    def environment(self, work: Path, cuda_home: Path | None, **more: str) -> dict[str, str]:
        work.mkdir()
        env = {
            "PATH": "/usr/bin",
            "CUDA_HOME": "/wrong",
            "HOROVOD_WITH_MPI": "1",
            "HOME": "/home/app",
            **more,
        }
        nccl = work / "site" / "nvidia" / "nccl"
        return build_environment(
            env, bin_dir=work / "bin-of-venv", cmake="/opt/cmake", work=work, cuda_home=cuda_home, nccl=nccl
        )

    def test_a_cpu_build_looks_for_no_cuda_and_takes_our_cmake(self, tmp_path: Path) -> None:
        flags = self.environment(tmp_path / "work", None)
        assert not {name for name in flags if name.startswith("CUDA") or "NCCL" in name}
        assert flags["HOROVOD_WITH_GLOO"] == flags["HOROVOD_WITHOUT_MPI"] == "1"
        assert "HOROVOD_WITH_MPI" not in flags
        assert flags["PATH"].split(os.pathsep)[0] == str(tmp_path / "work" / "bin")
        assert (tmp_path / "work" / "bin" / "cmake").readlink() == Path("/opt/cmake")
        assert "-std=c++20" in Path(flags["CMAKE_TOOLCHAIN_FILE"]).read_text()

    def test_a_cuda_build_links_against_the_nccl_of_torch(self, tmp_path: Path) -> None:
        flags = self.environment(tmp_path / "work", tmp_path / "cuda")
        assert flags["HOROVOD_GPU_OPERATIONS"] == "NCCL"
        assert flags["CUDACXX"] == str(tmp_path / "cuda" / "bin" / "nvcc")
        link = Path(flags["HOROVOD_NCCL_HOME"]) / "lib" / "libnccl.so"
        assert str(link.readlink()).endswith("nvidia/nccl/lib/libnccl.so.2")

    def test_as_many_compilers_as_there_are_cores_unless_said(self, tmp_path: Path) -> None:
        # Horovod's own default is eight, of 1.5 GB each.
        assert self.environment(tmp_path / "a", None)["MAKEFLAGS"] == f"-j{len(os.sched_getaffinity(0))}"
        assert self.environment(tmp_path / "b", None, MAKEFLAGS="-j1")["MAKEFLAGS"] == "-j1"

    def test_the_gpus_that_kernels_are_compiled_for(self, tmp_path: Path) -> None:
        flags = self.environment(tmp_path / "a", tmp_path / "cuda", HOROVOD_BUILD_CUDA_CC_LIST="7.5,80, 120")
        assert flags["HOROVOD_BUILD_CUDA_CC_LIST"] == "75,80,120"
        nobody = self.environment(tmp_path / "b", tmp_path / "cuda", PATH=str(tmp_path))
        assert nobody["HOROVOD_BUILD_CUDA_CC_LIST"] == "80,90"


class TestStamp:
    def test_is_read_back_and_cleared(self, tmp_path: Path) -> None:
        assert read_stamp(tmp_path) is None
        write_stamp(tmp_path, Stamp("digest", "gloo"))
        assert read_stamp(tmp_path) == Stamp("digest", "gloo")
        assert len(list(tmp_path.iterdir())) == 1
        clear_stamp(tmp_path)
        clear_stamp(tmp_path)
        assert read_stamp(tmp_path) is None

    @pytest.mark.parametrize("text", ["", "{", "{}", '{"digest": 1, "other": 2}', "[]"])
    def test_a_damaged_stamp_counts_as_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "conveyor-setup.json").write_text(text)
        assert read_stamp(tmp_path) is None

    def test_digest_follows_every_file_and_fact(self, tmp_path: Path) -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        one.write_text("1")
        two.write_text("2")
        before = digest_of([one, two], ["3.11", "dev"])
        assert digest_of([one, two], ["3.11", "dev"]) == before
        assert digest_of([one, two], ["3.11", "all"]) != before
        assert digest_of([two, one], ["3.11", "dev"]) != before
        two.write_text("3")
        assert digest_of([one, two], ["3.11", "dev"]) != before


class TestPlace:
    def test_this_environment_is_in_its_place_and_a_moved_one_is_not(self, tmp_path: Path) -> None:
        made, moved = tmp_path / "made here", tmp_path / "moved"
        (made / "bin").mkdir(parents=True)
        (made / "bin" / "pip").write_text(f"#!{made}/bin/python3.11\nimport sys\n")
        assert is_in_its_place(made)
        assert is_in_its_place(Path(sys.prefix))
        # what pip writes where the path is long or holds a space
        (made / "bin" / "pip").write_text(f'#!/bin/sh\n\'\'\'exec\' "{made}/bin/python3.11" "$0" "$@"\n')
        assert is_in_its_place(made)
        made.rename(moved)
        assert not is_in_its_place(moved)
        assert not is_in_its_place(tmp_path / "nowhere")


class TestHalfInstalled:
    def package(self, site: Path, name: str) -> Path:
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text("x = 1\n")
        (info / "INSTALLER").write_text("pip\n")
        (info / "RECORD").write_text(f"{name}.py,sha256=abc,6\n{info.name}/INSTALLER,,\n{name}.pyc,,9\n")
        return info

    def test_a_whole_package_stays(self, tmp_path: Path) -> None:
        self.package(tmp_path, "whole")
        assert remove_half_installed(tmp_path) == []

    def test_packages_that_a_killed_pip_left_are_forgotten(self, tmp_path: Path) -> None:
        self.package(tmp_path, "whole")
        (self.package(tmp_path, "early") / "INSTALLER").unlink()
        (self.package(tmp_path, "bare") / "RECORD").unlink()
        self.package(tmp_path, "missing")
        (tmp_path / "missing.py").unlink()
        (tmp_path / "~orch").mkdir()
        assert remove_half_installed(tmp_path) == ["bare-1.0", "early-1.0", "missing-1.0"]
        assert sorted(path.name for path in tmp_path.glob("*.dist-info")) == ["whole-1.0.dist-info"]
        assert not (tmp_path / "~orch").exists()

    def test_this_environment_is_whole(self) -> None:
        """The rule fits what pip writes: of what is installed here, nothing would be installed again."""
        site = next(Path(path) for path in sys.path if path.endswith("site-packages"))
        assert [info.name for info in sorted(site.glob("*.dist-info")) if not is_whole(info)] == []


class TestConsole:
    def test_a_command_that_fails_shows_its_last_lines_and_the_log(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        code = "import sys; print('cause'); sys.exit(3)"
        with pytest.raises(SetupError, match=r"status 3\n    cause\n") as error:
            Console(1, io.StringIO()).run([sys.executable, "-c", code], log=log)
        assert str(log) in str(error.value)
        assert log.read_text() == "cause\n"

    def test_output_becomes_short(self) -> None:
        assert describe("Progress 5000000 of 10000000\n") == "downloading 5 of 10 MB"
        assert describe("[ 42%] Building CXX object CMakeFiles/x.dir/operations.cc.o") == (
            "compiling 42 %: operations.cc.o"
        )
        assert describe("  warning: unused variable") == ""
        assert clock(75.2) == "1:15"


class TestProject:
    def test_constraints_pin_every_line_without_hosts_hashes_or_local_builds(self) -> None:
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        pins = [line for line in lines if line and not line.startswith("#")]
        assert all(line.count("==") == 1 for line in pins)
        assert not [line for line in pins if any(mark in line for mark in ("+", "--", "://", "@"))]
        assert f"horovod=={VERSION}" in pins

    def test_a_second_set_up_ends_at_once_and_runs_without_packages(self, tmp_path: Path) -> None:
        """An isolated Python (-S: no site-packages) reads the stamp and does nothing more."""
        venv = tmp_path / "venv"
        venv.mkdir()
        code = (
            "import sys; sys.path.insert(0, 'tools'); import bootstrap; from pathlib import Path; "
            "from venv_setup.stamp import Stamp, write_stamp; venv = Path(sys.argv[1]); "
            "write_stamp(venv, Stamp(bootstrap.wanted_digest(venv, 'dev'), 'gloo'))"
        )
        python = [sys.executable, "-S"]
        subprocess.run([*python, "-c", code, str(venv)], cwd=ROOT, check=True)
        second = subprocess.run(
            [*python, "tools/bootstrap.py", "--venv", str(venv)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (second.returncode, second.stderr) == (0, "")
        assert [path.name for path in venv.iterdir()] == ["conveyor-setup.json"]
