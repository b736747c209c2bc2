#!/usr/bin/env python3
"""Take out of an image's site-packages what no step can load, in the same layer that installed it.

Whole distributions go with their metadata, so that an SBOM names only what is there. The tests of the containers run
all steps on what is left.
"""

import argparse
import csv
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

UNUSED = {
    # distribution: what of it no step loads, as globs in site-packages
    "botocore": ["botocore/data/*/"],
    "onnx": ["onnx/backend/test/data", "onnx/test"],
    "onnxruntime": [
        "onnxruntime/capi/libonnxruntime.so.*",  # the C library, for programs that are not Python
        "onnxruntime/datasets",
        "onnxruntime/tools",
        "onnxruntime/transformers/models",  # the quantizer imports the folder above
    ],
    "pyarrow": [
        # what is only for compiling against it, its tests, and services that we do not speak
        "pyarrow/include",
        "pyarrow/includes",
        "pyarrow/src",
        "pyarrow/*.p[xy][dxi]",
        "pyarrow/tests",
        "pyarrow/*flight*",
        "pyarrow/_substrait*",  # its library is linked with the rest
        "pyarrow/*s3*.so*",
        "pyarrow/_pyarrow_cpp_tests*",
        # copies of what is loaded by its other name
        "pyarrow/libarrow_python*.so",
        "pyarrow/libarrow_python*.so.*.*",
    ],
    "tensorboard": ["tensorboard/webfiles.zip"],  # scalars are written here and shown elsewhere
}
KEPT = {"botocore": ["s3", "signin", "sso", "sso-oidc", "sts"]}
"""Services that the S3 store and its credentials speak to."""

WHOLE = ["grpcio", "tensorboard-data-server"]
"""TensorBoard's server needs them; nothing that writes scalars does."""

GPU_WHOLE = ["triton"]
GPU_ONLY = [
    # Loaded when the first CUDA tensor asks for it, never on a CPU. The rest libtorch is linked with, so it stays.
    "nvidia/cu13/lib/libcusolver*",
    "nvidia/cu13/lib/libnvperf*",
    "nvidia/cu13/lib/libnvrtc.alt*",
    "nvidia/cu13/lib/libnvrtc-builtins*",
    "nvidia/cu13/lib/*.a",
    "nvidia/cudnn/lib/libcudnn_*",
    "nvidia/libnvcomp/*",
    "nvidia/nvshmem/lib/nvshmem_transport*",
    "nvidia/nvshmem/lib/*.a",
    "nvidia/nvshmem/lib/*.bc",
    "torch/lib/libtorch_cuda_linalg.so",
]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("venv", type=Path)
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args(argv)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = arguments.venv / "lib" / version / "site-packages"
    num = sum(remove(path) for path in sorted(set(unwanted(site, arguments.accelerator))))
    print(f"slim: {num / 1e6:.0f} MB that no step loads")
    return 0


def unwanted(site: Path, accelerator: str) -> Iterator[Path]:
    for name in [*WHOLE, *(GPU_WHOLE if accelerator == "cpu" else [])]:
        yield from distribution_files(site, name)
    for name, patterns in UNUSED.items():
        for pattern in patterns:
            yield from (path for path in site.glob(pattern) if path.name not in KEPT.get(name, []))
    if accelerator == "cpu":
        for pattern in GPU_ONLY:
            yield from site.glob(pattern)
    ours = sysconfig.get_config_var("SOABI")  # such as cpython-311-x86_64-linux-gnu
    for path in site.rglob("*.cpython-*.so"):
        if path.name.split(".")[-2] != ours:
            yield path  # DALI brings its modules for every Python


def distribution_files(site: Path, name: str) -> Iterator[Path]:
    """The top folders of an installed distribution: its packages, its metadata, its libraries."""
    for info in site.glob(f"{name.replace('-', '_')}-*.dist-info"):
        with (info / "RECORD").open(newline="") as file:
            tops = {row[0].partition("/")[0] for row in csv.reader(file)}
        yield from (site / top for top in sorted(tops) if not top.startswith("..") and top != "__pycache__")


def remove(path: Path) -> int:
    """Delete a file or a folder; returns the bytes that it held."""
    if path.is_dir() and not path.is_symlink():
        size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
        shutil.rmtree(path)
        return size
    size = path.lstat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    return size


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
