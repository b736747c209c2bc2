"""What this machine can compile: C++ compiler, make, CMake, Python's headers, the CUDA toolkit."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MIN_GXX = 11
MIN_CMAKE = (3, 21)


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that can build Horovod, or the reason why there is none."""

    path: str | None
    problem: str | None = None


def find_compiler(env: Mapping[str, str], *, include: Path | None = None) -> Compiler:
    """Look for what compiling Horovod takes on the PATH of `env`: g++ >= 11 or clang++, make, and Python.h under
    `include` where that is given. CXX is honoured."""
    names = [env["CXX"]] if env.get("CXX") else ["g++", "c++", "clang++"]
    found = [path for name in names if (path := which(name, env))]
    if not found:
        return Compiler(
            None, f"no C++ compiler ({', '.join(names)}) on the PATH; install: apt-get install g++"
        )
    path = found[0]
    version = gxx_major(_output([path, "--version"], env))
    if version is not None and version < MIN_GXX:
        return Compiler(
            None, f"{path} is version {version}, Horovod needs g++ >= {MIN_GXX}; install a newer one"
        )
    if not which("make", env):
        return Compiler(None, "no make on the PATH; install: apt-get install make")
    if include is not None and not (include / "Python.h").exists():
        return Compiler(None, f"no Python.h in {include}; install: apt-get install python3-dev")
    return Compiler(path)


def gxx_major(text: str) -> int | None:
    """Major version out of `g++ --version`; None for another compiler."""
    if "Free Software Foundation" not in text:
        return None
    match = re.search(r"\) (\d+)\.\d+", text)
    return int(match[1]) if match else None


def system_cmake(env: Mapping[str, str]) -> str | None:
    """The system's CMake when it is new enough; None means: take it from the package index."""
    path = which("cmake", env)
    return path if path and cmake_suffices(_output([path, "--version"], env)) else None


def cmake_suffices(text: str) -> bool:
    """Does `cmake --version` say 3.21 or newer?"""
    match = re.search(r"cmake version (\d+)\.(\d+)", text)
    return match is not None and (int(match[1]), int(match[2])) >= MIN_CMAKE


def find_cuda_home(env: Mapping[str, str]) -> Path | None:
    """The CUDA toolkit as torch looks for it: CUDA_HOME, nvcc on the PATH, /usr/local/cuda."""
    candidates = [Path(env[name]) for name in ("CUDA_HOME", "CUDA_PATH") if env.get(name)]
    if nvcc := which("nvcc", env):
        candidates.append(Path(nvcc).resolve().parents[1])
    candidates.append(Path("/usr/local/cuda"))
    return next((home for home in candidates if (home / "bin" / "nvcc").exists()), None)


def nvcc_release(home: Path, env: Mapping[str, str]) -> str:
    """`13.0` out of `nvcc --version`; empty where it does not say."""
    match = re.search(r"release (\d+\.\d+)", _output([str(home / "bin" / "nvcc"), "--version"], env))
    return match[1] if match else ""


def compute_capabilities(env: Mapping[str, str]) -> list[str]:
    """Which GPUs Horovod's kernels are compiled for, such as `90`: what HOROVOD_BUILD_CUDA_CC_LIST says, else this
    machine's, else both common data-centre ones."""
    if said := env.get("HOROVOD_BUILD_CUDA_CC_LIST", "").strip():
        return [each.strip().replace(".", "") for each in said.split(",") if each.strip()]
    smi = which("nvidia-smi", env)
    text = _output([smi, "--query-gpu=compute_cap", "--format=csv,noheader"], env) if smi else ""
    return sorted({line.replace(".", "").strip() for line in text.splitlines() if line.strip()}) or [
        "80",
        "90",
    ]


def which(name: str, env: Mapping[str, str]) -> str | None:
    return shutil.which(name, path=env.get("PATH", os.defpath))


def _output(command: list[str], env: Mapping[str, str]) -> str:
    try:
        return subprocess.run(
            command, env=dict(env), capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
