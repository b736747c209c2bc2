#!/usr/bin/env python3
"""Make the virtual environment: everything pinned by constraints.txt, Horovod built from source, this project on top.

Run by any Python 3.11 or 3.12, with nothing installed. A second call with nothing changed ends at once; a killed call
is taken up by the next one. `make demo` and `make test` begin with it.
"""

import argparse
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from venv_setup.console import Console, SetupError
from venv_setup.horovod import (
    VERSION,
    TorchBuild,
    build_environment,
    build_wheel,
    cache_key,
    cached_wheel,
    fetch_sdist,
    locked,
    publish_wheel,
    read_torch_build,
)
from venv_setup.stamp import (
    Stamp,
    clear_stamp,
    digest_of,
    is_in_its_place,
    read_stamp,
    remove_half_installed,
    write_stamp,
)
from venv_setup.toolchain import (
    compute_capabilities,
    find_compiler,
    find_cuda_home,
    nvcc_release,
    system_cmake,
    which,
)

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED = ((3, 11), (3, 12))
NUM_STEPS = 4
BUILD_TOOLS = ["setuptools", "wheel", "packaging", "cloudpickle", "psutil", "pyyaml", "cffi"]
"""What Horovod's set-up imports."""
BACKENDS = ("gloo", "nccl")
NO_TOOLCHAIN = "cannot compile"
WITHOUT_HOROVOD = (
    "Horovod is left out; what is lost: the `horovod` engine and elastic training.\n"
    "      Everything else works; several processes train with torch's own DDP."
)


def main() -> int:
    arguments = parse(sys.argv[1:])
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # unwinds: commands are ended, temporary folders go
    try:
        return set_up(arguments, dict(os.environ))
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: interrupted; the next call goes on from here", file=sys.stderr)
        return 130


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where (default: .venv)")
    parser.add_argument("--extras", default="dev", help="extras of pyproject.toml to install (default: dev)")
    parser.add_argument("--require-horovod", action="store_true", help="fail where Horovod cannot be built")
    return parser.parse_args(argv)


def set_up(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    """Bring the environment up to date; returns the exit status."""
    venv, extras = arguments.venv.absolute(), arguments.extras
    if sys.version_info[:2] not in SUPPORTED:
        raise SetupError(
            f"Python {platform.python_version()} is not supported; install python3.11 and run: "
            "make PYTHON=python3.11"
        )
    digest = wanted_digest(venv, extras)
    horovod = finished(venv, digest, env)
    if horovod is not None:
        if horovod not in BACKENDS:
            print(f"set-up: up to date, without Horovod ({horovod}); DDP is used", file=sys.stderr)
        return int(arguments.require_horovod and horovod not in BACKENDS)

    console, cache = Console(NUM_STEPS), cache_dir(env)
    log = cache / "logs" / f"setup-{os.getpid()}.log"
    place = hashlib.sha256(str(venv).encode()).hexdigest()[:16]
    with locked(cache / "locks" / f"venv-{place}.lock", console, "setting this environment up"):
        horovod = finished(venv, digest, env)  # by the process that we waited for
        if horovod is None:
            clear_stamp(venv)
            make_venv(venv, console)
            install(venv, extras, env, console, log)
            horovod = add_horovod(venv, env, console, cache, log)
            console.step("this project")
            pip_install(venv, ["--no-build-isolation", "--no-deps", "-e", str(ROOT)], env, console, log)
            write_stamp(venv, Stamp(digest, horovod))
    log.unlink(missing_ok=True)
    console.say(f"set-up: {venv} is ready after {console.elapsed()} (Horovod: {horovod})")
    return int(arguments.require_horovod and horovod not in BACKENDS)


def finished(venv: Path, digest: str, env: Mapping[str, str]) -> str | None:
    """What became of Horovod in a set-up that has nothing left to do; None where there is something to do.

    A compiler that was missing and is there now is something; a build that failed is not tried again.
    """
    stamp = read_stamp(venv)
    if stamp is None or stamp.digest != digest:
        return None
    if stamp.horovod.startswith(NO_TOOLCHAIN) and find_compiler(env).path is not None:
        return None
    return stamp.horovod


def wanted_digest(venv: Path, extras: str) -> str:
    """What the finished environment depends on."""
    own = [Path(__file__), *sorted((Path(__file__).parent / "venv_setup").glob("*.py"))]
    files = [ROOT / "pyproject.toml", ROOT / "constraints.txt", *own]
    return digest_of(files, [sys.version, os.path.realpath(sys.executable), str(venv), str(ROOT), extras])


def cache_dir(env: Mapping[str, str]) -> Path:
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "conveyor"


def make_venv(venv: Path, console: Console) -> None:
    """Make the environment, or mend what a killed set-up left of it."""
    console.step(f"virtual environment {venv}, Python {platform.python_version()}")
    if is_in_its_place(venv) and works(venv):
        if removed := remove_half_installed(site_packages(venv)):
            console.say(f"      mending what was left half installed: {', '.join(removed)}")
        return
    if venv.exists() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists():
        raise SetupError(f"{venv} is not a virtual environment; move it away, or choose another: --venv DIR")
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise SetupError(
            f"python -m venv failed:\n{made.stdout}{made.stderr}\n"
            "  on Debian and Ubuntu it is a package of its own: apt-get install python3-venv"
        )


def works(venv: Path) -> bool:
    """Is it of this Python, and can its pip start?"""
    probe = "import sys, pip; print(*sys.version_info[:2])"
    if not (venv / "bin" / "python").exists():
        return False
    command = [str(venv / "bin" / "python"), "-c", probe]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return found == [str(number) for number in sys.version_info[:2]]


def site_packages(venv: Path) -> Path:
    return venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def install(venv: Path, extras: str, env: Mapping[str, str], console: Console, log: Path) -> None:
    """Everything that comes from the package index, under the one constraints file."""
    console.step("packages: 2.5 GB to fetch the first time, some minutes")
    # The pip that Python brings may be too old for the options below.
    own_pip = [
        *pip_of(venv),
        "install",
        "--disable-pip-version-check",
        "-c",
        str(ROOT / "constraints.txt"),
        "pip",
    ]
    console.run(own_pip, log=log, env=env)
    pip_install(venv, BUILD_TOOLS, env, console, log)
    requirement = f"{ROOT}[{extras}]" if extras else str(ROOT)
    pip_install(venv, ["--no-build-isolation", "-e", requirement], env, console, log)


def pip_install(venv: Path, what: list[str], env: Mapping[str, str], console: Console, log: Path) -> None:
    constraints = ["-c", str(ROOT / "constraints.txt")]
    options = ["--progress-bar", "raw", "--disable-pip-version-check", *constraints]
    console.run([*pip_of(venv), "install", *options, *what], log=log, env=env, cwd=venv)


def pip_of(venv: Path) -> list[str]:
    return [str(venv / "bin" / "python"), "-m", "pip"]


def add_horovod(venv: Path, env: Mapping[str, str], console: Console, cache: Path, log: Path) -> str:
    """Install Horovod's wheel, building it where the cache has none; returns `gloo`, `nccl` or why it is missing."""
    console.step(f"Horovod {VERSION}: from the cache, or 3 minutes to build on 2 cores")
    torch = read_torch_build(site_packages(venv))
    cuda_home, remark = choose_cuda(torch, env)
    if remark:
        console.say(f"      {remark}")
    backend = "nccl" if cuda_home else "gloo"
    key = cache_key(
        python=f"{sys.version_info[0]}.{sys.version_info[1]}",
        torch=torch,
        machine=platform.machine(),
        backend=backend,
        capabilities=compute_capabilities(env) if cuda_home else (),
    )
    try:
        for _ in range(2):
            with locked(cache / "locks" / f"{key}.lock", console, "building the same wheel"):
                wheel = cached_wheel(cache, key)
                if wheel is None:
                    include = Path(sys.base_prefix) / "include" / f"python3.{sys.version_info[1]}"
                    problem = find_compiler(env, include=include).problem
                    if problem and loads(venv):  # built earlier, its cache entry is gone
                        return backend
                    if problem:
                        console.say(f"      {problem}\n      {WITHOUT_HOROVOD}")
                        return f"{NO_TOOLCHAIN}: {problem}"
                    wheel = build(venv, env, console, cache, log, key, cuda_home)
            # Not through constraints: the wheel is the constraint.
            command = [*pip_of(venv), "install", "--no-deps", "--force-reinstall", str(wheel)]
            console.run(command, log=log, env=env)
            if loads(venv):
                return backend
            console.say("      the wheel does not load here; building it anew")
            shutil.rmtree(wheel.parent)
        raise SetupError("the wheel was built and does not load")
    except SetupError as error:
        subprocess.run([*pip_of(venv), "uninstall", "-q", "-y", "horovod"], check=False)
        console.say(f"      Horovod could not be built: {error}\n      {WITHOUT_HOROVOD}")
        return "its build failed"


def choose_cuda(torch: TorchBuild, env: Mapping[str, str]) -> tuple[Path | None, str]:
    """The toolkit to build NCCL operations with, None for CPU and Gloo; and what to tell the user about it."""
    if torch.cuda is None:
        return None, ""
    home = find_cuda_home(env)
    if home is None:
        gloo = "no CUDA toolkit (CUDA_HOME, nvcc): Horovod gets Gloo only; several GPUs train through DDP"
        return None, gloo if which("nvidia-smi", env) else ""
    release = nvcc_release(home, env)
    if release.split(".")[0] != torch.cuda.split(".")[0]:
        raise SetupError(
            f"{home} is CUDA {release or '?'}, torch was built for {torch.cuda}: Horovod needs the same major "
            f"version; install it and point CUDA_HOME at it"
        )
    return home, f"with NCCL, by the CUDA toolkit {home}"


def build(
    venv: Path,
    env: Mapping[str, str],
    console: Console,
    cache: Path,
    log: Path,
    key: str,
    cuda_home: Path | None,
) -> Path:
    """Build the wheel and put it into the cache."""
    cmake = system_cmake(env)
    if cmake is None:
        console.say("      CMake is missing or older than 3.21: taking the package index's")
        pip_install(venv, ["cmake"], env, console, log)
        cmake = str(venv / "bin" / "cmake")
    with tempfile.TemporaryDirectory(prefix="conveyor-horovod-") as folder:
        work = Path(folder)
        nccl = site_packages(venv) / "nvidia" / "nccl"
        flags = build_environment(
            env, bin_dir=venv / "bin", cmake=cmake, work=work, cuda_home=cuda_home, nccl=nccl
        )
        sdist = fetch_sdist(pip_of(venv), cache, flags, console, log)
        return publish_wheel(cache, key, build_wheel(pip_of(venv), sdist, flags, console, work, log))


def loads(venv: Path) -> bool:
    """Does Horovod's torch extension load, and has it Gloo?"""
    probe = "import horovod.torch as hvd; raise SystemExit(not hvd.gloo_built())"
    command = [str(venv / "bin" / "python"), "-W", "ignore", "-c", probe]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
