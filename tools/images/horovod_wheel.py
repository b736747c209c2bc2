#!/usr/bin/env python3
"""Build Horovod's wheel against the torch of an image, with the code and the flags of `make setup`.

An image without Horovod is no image of ours: unlike set-up, this fails where it cannot be built.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bootstrap
from venv_setup.console import Console, SetupError
from venv_setup.horovod import read_torch_build
from venv_setup.toolchain import find_compiler, find_cuda_home


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, required=True, help="with torch, and a pip of its own")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives the wheel")
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--cuda-archs", help="compute capabilities of the GPUs, such as 80,90 (default: 80,90)"
    )
    arguments = parser.parse_args(argv)
    env = dict(os.environ)
    if arguments.cuda_archs:
        env["HOROVOD_BUILD_CUDA_CC_LIST"] = arguments.cuda_archs
    console = Console(num_steps=1)
    log = Path(tempfile.mkdtemp()) / "horovod.log"
    try:
        wheel = build(arguments.venv, arguments.out, arguments.accelerator, env, console, log)
    except SetupError as error:
        # All of it: the container that holds the log is gone when the build has failed.
        print(log.read_text(encoding="utf-8", errors="replace") if log.exists() else "", file=sys.stderr)
        print(f"Horovod's wheel: {error}", file=sys.stderr)
        return 1
    console.say(f"{wheel.name} after {console.elapsed()}")
    return 0


def build(venv: Path, out: Path, accelerator: str, env: dict[str, str], console: Console, log: Path) -> Path:
    """Compile, and copy the wheel to `out`. Raises `SetupError`."""
    console.step(f"Horovod for {accelerator}: 3 minutes on 2 cores")
    if problem := find_compiler(env).problem:
        raise SetupError(problem)
    cuda_home = None
    if accelerator == "cuda":
        if find_cuda_home(env) is None:
            env["CUDA_HOME"] = str(install_toolkit(venv, env, console, log))
        cuda_home, remark = bootstrap.choose_cuda(read_torch_build(bootstrap.site_packages(venv)), env)
        if cuda_home is None:
            raise SetupError(f"a CUDA image needs a CUDA build of torch and a CUDA toolkit; {remark}")
        console.say(remark)
    bootstrap.pip_install(venv, bootstrap.BUILD_TOOLS, env, console, log)
    with tempfile.TemporaryDirectory() as cache:
        wheel = bootstrap.build(venv, env, console, Path(cache), log, "image", cuda_home)
        out.mkdir(parents=True, exist_ok=True)
        target = out / wheel.name
        target.write_bytes(wheel.read_bytes())
    return target


def install_toolkit(venv: Path, env: dict[str, str], console: Console, log: Path) -> Path:
    """CUDA's compiler and headers from the package index, beside the libraries that torch brought; returns its home.

    The wheels have the libraries' versioned names only, and `lib` where build systems look for `lib64`.
    """
    console.say("      no CUDA toolkit in the base: taking the package index's")
    bootstrap.pip_install(venv, ["cuda-toolkit[nvcc,cccl,cudart]"], env, console, log)
    (compiler,) = (bootstrap.site_packages(venv) / "nvidia").glob("*/bin/nvcc")
    home = compiler.parents[1]
    for library in (home / "lib").glob("*.so.*"):
        plain = library.with_name(f"{library.name.partition('.so.')[0]}.so")
        if not plain.exists():
            plain.symlink_to(library.name)
    if not (home / "lib64").exists():
        (home / "lib64").symlink_to("lib")
    return home


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
