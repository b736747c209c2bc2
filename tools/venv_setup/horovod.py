"""Horovod's wheel: built once per Python, torch build and architecture, kept in the user's cache folder.

Horovod 0.28.1 builds unmodified against today's torch when CMake is told to compile as C++20 (torch's headers need
it) and to accept the old minimum versions of its third-party projects.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from venv_setup.console import Console, SetupError
from venv_setup.toolchain import compute_capabilities

VERSION = "0.28.1"
SDIST_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
TOOLCHAIN = """\
# Included again by every project() call, also those of third-party folders, which set C++14 themselves.
set(CMAKE_PROJECT_INCLUDE "${CMAKE_CURRENT_LIST_FILE}")
set(CMAKE_CXX14_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CXX14_EXTENSION_COMPILE_OPTION "-std=gnu++20")
"""


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch: full version (`2.13.0+cu130`), and its CUDA version, None for a CPU build."""

    version: str
    cuda: str | None


def read_torch_build(site_packages: Path) -> TorchBuild:
    """Out of torch's own version file; importing torch would take seconds. Raises `SetupError`."""
    path = site_packages / "torch" / "version.py"
    try:
        return parse_torch_build(path.read_text())
    except (OSError, ValueError):
        raise SetupError(f"torch is not installed whole: no usable {path}") from None


def parse_torch_build(text: str) -> TorchBuild:
    version = re.search(r"^__version__\b[^=]*= '([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b[^=]*= '([^']+)'", text, re.MULTILINE)
    if not version:
        raise ValueError("no __version__")
    return TorchBuild(version[1], cuda[1] if cuda else None)


def cache_key(
    *, python: str, torch: TorchBuild, machine: str, backend: str, capabilities: Sequence[str] = ()
) -> str:
    """Name of the cache entry, such as `horovod-0.28.1-cp311-torch2.13.0+cpu-x86_64-gloo`.

    `capabilities`: of the GPUs that the kernels are compiled for. Machines with other GPUs may share the cache.
    """
    kind = "-".join([backend, *capabilities])
    return f"horovod-{VERSION}-cp{python.replace('.', '')}-torch{torch.version}-{machine}-{kind}"


def cached_wheel(cache: Path, key: str) -> Path | None:
    """The wheel under that key; None where there is none. A damaged one is removed."""
    for wheel in (cache / "wheels" / key).glob("*.whl"):
        try:
            with zipfile.ZipFile(wheel) as archive:
                if archive.testzip() is None:
                    return wheel
        except (zipfile.BadZipFile, OSError):
            pass
        shutil.rmtree(wheel.parent, ignore_errors=True)
    return None


def publish_wheel(cache: Path, key: str, wheel: Path) -> Path:
    """Move a finished wheel into the cache: whole or not at all; the first of several writers wins."""
    folder = cache / "wheels" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as partial:
        staged = Path(partial) / "entry"
        staged.mkdir()
        copy = staged / wheel.name
        shutil.copyfile(wheel, copy)
        with copy.open("rb") as file:
            os.fsync(file.fileno())
        try:
            staged.rename(folder)
        except OSError:  # not empty: somebody else was first
            if not cached_wheel(cache, key):
                raise
    return folder / wheel.name


@contextmanager
def locked(path: Path, console: Console, what: str) -> Iterator[None]:
    """Hold an advisory lock; the system frees it when its holder and the commands it started have ended.

    Says so while it waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say(f"      another process is {what}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        console.held_locks.append(file.fileno())
        try:
            yield
        finally:
            console.held_locks.remove(file.fileno())


def build_environment(
    env: Mapping[str, str], *, bin_dir: Path, cmake: str, work: Path, cuda_home: Path | None, nccl: Path
) -> dict[str, str]:
    """The variables that Horovod's set-up reads; `work` receives the toolchain file and the links it needs.

    `cuda_home` set: with NCCL out of torch's own wheel. Otherwise for CPU and Gloo, and no CUDA is looked for.
    """
    toolchain = work / "cxx20.cmake"
    toolchain.write_text(TOOLCHAIN)
    tools = work / "bin"  # Horovod calls `cmake`: ours must be the first on its PATH
    tools.mkdir()
    (tools / "cmake").symlink_to(cmake)
    kept = {name: value for name, value in env.items() if not name.startswith(("HOROVOD_", "CUDA_"))}
    flags = {
        **kept,
        "PATH": os.pathsep.join([str(tools), str(bin_dir), env.get("PATH", os.defpath)]),
        "CMAKE_TOOLCHAIN_FILE": str(toolchain),
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITHOUT_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITHOUT_MPI": "1",
        "HOROVOD_WITH_GLOO": "1",
        "LDFLAGS": "-Wl,-s",
        # Horovod asks for eight compilers at once, of 1.5 GB each, unless this is set.
        "MAKEFLAGS": env.get("MAKEFLAGS") or f"-j{len(os.sched_getaffinity(0))}",
    }
    if cuda_home is not None:
        flags |= {
            "CUDA_HOME": str(cuda_home),
            "HOROVOD_CUDA_HOME": str(cuda_home),
            "CUDACXX": str(cuda_home / "bin" / "nvcc"),
            "HOROVOD_GPU_OPERATIONS": "NCCL",
            "HOROVOD_NCCL_HOME": str(_nccl_home(nccl, work)),
            "HOROVOD_NCCL_LINK": "SHARED",
            "HOROVOD_BUILD_CUDA_CC_LIST": ",".join(compute_capabilities(env)),
        }
    return flags


def _nccl_home(nccl: Path, work: Path) -> Path:
    """NCCL's wheel has only `libnccl.so.2`; the linker wants `libnccl.so` too, which we do not write into it."""
    home = work / "nccl"
    (home / "lib").mkdir(parents=True)
    (home / "include").symlink_to(nccl / "include")
    for name in ("libnccl.so", "libnccl.so.2"):
        (home / "lib" / name).symlink_to(nccl / "lib" / "libnccl.so.2")
    return home


def fetch_sdist(pip: list[str], cache: Path, env: Mapping[str, str], console: Console, log: Path) -> Path:
    """Horovod's source archive, from the cache or the package index; its digest is checked each time."""
    target = cache / "sdists" / f"horovod-{VERSION}.tar.gz"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as partial:
            options = ["--no-deps", "--no-build-isolation", "--no-binary", "horovod", "--progress-bar", "raw"]
            console.run([*pip, "download", *options, "-d", partial, f"horovod=={VERSION}"], log=log, env=env)
            (archive,) = Path(partial).glob("horovod-*.tar.gz")
            archive.replace(target)
    found = hashlib.sha256(target.read_bytes()).hexdigest()
    if found != SDIST_SHA256:
        target.unlink()
        raise SetupError(
            f"Horovod's source archive is not the one we know: sha256 {found}, expected {SDIST_SHA256}; "
            "it was removed. Run set-up again; if this repeats, the package index serves another file"
        )
    return target


def build_wheel(
    pip: list[str], sdist: Path, env: Mapping[str, str], console: Console, work: Path, log: Path
) -> Path:
    """Compile; about three minutes on two cores."""
    out = work / "out"
    options = ["-v", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    console.run([*pip, "wheel", *options, "-w", str(out), str(sdist)], log=log, env=env)
    (wheel,) = out.glob("horovod-*.whl")
    return wheel
