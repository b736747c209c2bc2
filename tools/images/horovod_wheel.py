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
from venv_setup.toolchain import find_compiler


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, required=True, help="with torch, and a pip of its own")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives the wheel")
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args(argv)
    console = Console(num_steps=1)
    log = Path(tempfile.mkdtemp()) / "horovod.log"
    try:
        wheel = build(arguments.venv, arguments.out, arguments.accelerator, console, log)
    except SetupError as error:
        print(f"Horovod's wheel: {error}", file=sys.stderr)
        return 1
    console.say(f"{wheel.name} after {console.elapsed()}")
    return 0


def build(venv: Path, out: Path, accelerator: str, console: Console, log: Path) -> Path:
    """Compile, and copy the wheel to `out`. Raises `SetupError`."""
    console.step(f"Horovod for {accelerator}: 3 minutes on 2 cores")
    env = dict(os.environ)
    if problem := find_compiler(env).problem:
        raise SetupError(problem)
    cuda_home = None
    if accelerator == "cuda":
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


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
