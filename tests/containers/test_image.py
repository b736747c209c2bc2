"""What the image is: whose, how it starts, what is in it, and what is not."""

import json

import pytest

from support.containers import SITE_PACKAGES, Box, docker, inspect
from support.small_pipeline import ROOT

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600, func_only=True)]

MB = 1_000_000
MAX_ADDED_COMPRESSED = 60 * MB
"""In a registry, of every package that torch, DALI and kfp do not bring, ours among them; docs/images.md lists them."""
MAX_ADDED = 180 * MB
"""The same on disk."""


def our_history(image: str) -> list[str]:
    """How each layer above the base's was made, newest first: what its base says is not ours to answer for."""
    lines = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).out.splitlines()
    first = next(number for number, line in enumerate(lines) if "ENV PIP_DISABLE_PIP_VERSION_CHECK" in line)
    return lines[: first + 1]


class TestConfiguration:
    def test_nobody_s_root_by_number(self, image: str) -> None:
        assert inspect(image)["Config"]["User"] == "10001:10001"

    def test_entry_point_is_the_command_under_a_process_one_that_reaps(self, image: str) -> None:
        assert inspect(image)["Config"]["Entrypoint"] == ["tini", "--", "conveyor"]

    def test_environment(self, image: str) -> None:
        found = dict(line.split("=", 1) for line in inspect(image)["Config"]["Env"])
        assert found["HOME"] == "/tmp"
        assert found["PYTHONUNBUFFERED"] == found["PYTHONDONTWRITEBYTECODE"] == "1"
        assert found["CONVEYOR_LOG_FORMAT"] == "json"
        assert found["CONVEYOR_ACCELERATOR"] == "cpu"
        assert found["CUDA_VISIBLE_DEVICES"] == ""
        # Of the host's GPUs, a pod that asked for none is to see none.
        assert "NVIDIA_VISIBLE_DEVICES" not in found

    def test_labels(self, image: str) -> None:
        labels = inspect(image)["Config"]["Labels"]
        prefix = "org.opencontainers.image."
        assert labels[prefix + "title"] == "conveyor"
        assert labels[prefix + "version"] == "0.1.0"
        assert len(labels[prefix + "revision"].removesuffix("-dirty")) == 40
        assert labels[prefix + "licenses"] == "Apache-2.0"

    def test_no_credential_and_no_address_in_its_history(self, image: str) -> None:
        text = json.dumps(inspect(image)["Config"]) + "\n".join(our_history(image))
        for word in ("AWS_SECRET", "PASSWORD", "TOKEN", "index-url", "://"):
            assert word not in text, word


class TestContents:
    def test_version(self, box: Box) -> None:
        ended = box.run("--version")
        assert (ended.status, ended.out) == (0, "conveyor, version 0.1.0\n")

    def test_what_steps_need_is_there(self, box: Box) -> None:
        libraries = (
            "torch, torchvision, horovod.torch, nvidia.dali.fn, onnx, onnxruntime.quantization, onnxscript"
        )
        more = "torch_pruning, pyarrow.parquet, boto3, kfp.kubernetes, kubernetes, rich.live, rich.progress"
        ended = box.python(f"import {libraries}, {more}; from torch.utils.tensorboard import SummaryWriter")
        assert ended.status == 0, ended.err

    def test_what_only_builds_and_tests_need_is_not(self, box: Box) -> None:
        programs = "gcc g++ cc c++ clang make cmake pip pip3 ld git"
        assert box.run("-c", f"for p in {programs}; do command -v $p; done; true", entrypoint="sh").out == ""
        absent = ["pip", "sklearn", "scipy", "matplotlib", "moto", "cmake", "pytest", "mypy", "ruff"]
        found = box.python(f"import importlib.util as u; print([n for n in {absent} if u.find_spec(n)])")
        assert found.out == "[]\n", found.err
        wheels = r"find / -xdev \( -iname 'pip*.whl' -o -iname 'setuptools*.whl' \) 2>/dev/null; true"
        assert box.run("-c", wheels, entrypoint="sh").out == ""
        base = box.python(
            "import subprocess, sys; subprocess.run([sys._base_executable, '-c', 'import pip'], check=True)"
        )
        assert "No module named 'pip'" in base.err

    def test_no_caches_and_no_files_of_the_build(self, box: Box) -> None:
        look = "ls -d /build /wheels /out /root/.cache /root/.config /var/lib/apt/lists/* /var/cache/apt/*.bin 2>/dev/null; true"
        assert box.run("-c", look, entrypoint="sh").out == ""

    def test_debian_s_licences_are_kept(self, box: Box) -> None:
        look = "cat /usr/share/doc/tini/copyright; find /usr/share/doc -type f -not -name copyright"
        ended = box.run("-c", look, entrypoint="sh")
        assert "License" in ended.out
        assert "/usr/share/doc/" not in ended.out

    def test_only_tmp_can_be_written(self, box: Box) -> None:
        probe = (
            "for d in / /opt/conveyor /etc /var /usr /home /root /tmp; do test -w $d && echo $d; done; true"
        )
        assert box.run("-c", probe, entrypoint="sh").out == "/tmp\n"

    def test_no_file_belongs_to_the_user_who_runs(self, box: Box) -> None:
        look = "find / -xdev -user 10001 -not -path '/proc/*' 2>/dev/null | head"
        assert box.run("-c", look, entrypoint="sh").out == ""

    def test_our_modules_are_compiled(self, box: Box) -> None:
        # On a read-only root nothing is compiled later: a stale or missing one costs at every start.
        program = (
            "import importlib.util as u, pathlib, struct\n"
            f"root = pathlib.Path({SITE_PACKAGES!r})\n"
            "for top in ('components', 'pipelines', 'horovod', 'kfp', 'boto3'):\n"
            "    for source in (root / top).rglob('*.py'):\n"
            "        stat, cached = source.stat(), pathlib.Path(u.cache_from_source(source))\n"
            "        head = cached.read_bytes()[4:16] if cached.exists() else b''\n"
            "        if head != struct.pack('<III', 0, int(stat.st_mtime), stat.st_size): print(source)\n"
        )
        ended = box.python(program)
        assert (ended.status, ended.out) == (0, ""), ended.err

    def test_code_version_is_that_of_the_checkout(self, box: Box) -> None:
        from components.common.code import code_version

        steps = ["ingest", "preprocess", "train", "evaluate", "compress", "promote"]
        program = (
            "import json; from components.common.code import code_version as v; "
            f"print(json.dumps([v('components.' + s) for s in {steps}]))"
        )
        assert json.loads(box.python(program).out) == [code_version(f"components.{step}") for step in steps]


class TestSize:
    def test_what_we_add(self, box: Box) -> None:
        program = (ROOT / "tools/images/measure.py").read_text()
        found = box.run("-c", program, "--compressed", entrypoint="python").json()
        assert found["added_compressed"] < MAX_ADDED_COMPRESSED, found["packages_compressed"]
        assert found["added"] < MAX_ADDED, found["packages"]
