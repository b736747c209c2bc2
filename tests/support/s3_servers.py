"""Real S3 servers for tests: started on a free port with made-up credentials, gone when the tests end."""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from components.common.store.s3_client import make_client
from components.common.store.settings import StoreSettings

REPOSITORY = Path(__file__).resolve().parents[2]
BINARIES = "CONVEYOR_TEST_BIN"
ENDPOINT = "CONVEYOR_TEST_S3_ENDPOINT"
START_TIMEOUT_S = 60.0

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this process as soon as its parent dies, however it dies."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class S3Server:
    """A running server and how to reach it."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    process: subprocess.Popen[bytes] | None = None
    folder: Path | None = None
    buckets: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it as a store; unset what would lead elsewhere."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1,localhost",
            "CONVEYOR_S3_ENDPOINT": self.endpoint,
        }

    def make_bucket(self) -> str:
        """A fresh bucket's name."""
        bucket = f"conveyor-test-{secrets.token_hex(6)}"
        saved = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            make_client(StoreSettings(endpoint=self.endpoint)).create_bucket(Bucket=bucket)
        finally:
            for name, value in saved.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self.buckets.append(bucket)
        return bucket

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


@lru_cache(maxsize=1)
def binaries() -> Path | None:
    """The folder with minio and versitygw: $CONVEYOR_TEST_BIN, or where the cluster tool beside the repository says."""
    if named := os.environ.get(BINARIES):
        return Path(named)
    tool = REPOSITORY.parent / "shared" / "cluster" / "cluster"
    if not tool.is_file():
        return None
    said = subprocess.run([tool, "bin"], capture_output=True, text=True, check=False)
    return Path(said.stdout.strip()) if said.returncode == 0 and said.stdout.strip() else None


def available() -> list[str]:
    """Servers that tests can use here: real ones, else an endpoint from the environment, else moto's."""
    folder = binaries()
    real = [name for name in ("minio", "versitygw") if folder is not None and (folder / name).is_file()]
    if os.environ.get(ENDPOINT):
        real.append("endpoint")
    return real or ["moto"]


def describe() -> str:
    """One line for the head of a test run."""
    names = {
        "minio": "a real MinIO",
        "versitygw": "a real versitygw",
        "endpoint": f"the server at {os.environ.get(ENDPOINT)}",
        "moto": f"moto's imitation only (no real server: set {BINARIES} or {ENDPOINT})",
    }
    return "S3 tests run against " + ", ".join(names[name] for name in available())


def start(name: str) -> S3Server:
    """Start one of `available()`, or "moto", and wait until it answers."""
    if name == "endpoint":
        return S3Server(
            name,
            os.environ[ENDPOINT],
            os.environ.get("CONVEYOR_TEST_S3_ACCESS_KEY", os.environ.get("AWS_ACCESS_KEY_ID", "")),
            os.environ.get("CONVEYOR_TEST_S3_SECRET_KEY", os.environ.get("AWS_SECRET_ACCESS_KEY", "")),
        )
    folder = Path(tempfile.mkdtemp(prefix=f"conveyor-{name}-"))
    access, secret = secrets.token_hex(10), secrets.token_hex(20)
    for _ in range(3):  # another process may take the port between finding it and using it
        port = free_port()
        command, extra = _COMMANDS[name](folder, port, access, secret)
        with (folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={"PATH": os.environ["PATH"], "HOME": str(folder), **extra},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls nothing but prctl
                start_new_session=True,  # Ctrl-C is for the tests, which stop it themselves
            )
        server = S3Server(name, f"http://127.0.0.1:{port}", access, secret, process, folder)
        if _answers(server):
            return server
        log_text = (folder / "server.log").read_text(errors="replace")
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
    raise RuntimeError(f"{name} does not start:\n{log_text[-2000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(server: S3Server) -> bool:
    """Does it speak HTTP before the time is up? Any status will do."""
    deadline = time.monotonic() + START_TIMEOUT_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if server.process is not None and server.process.poll() is not None:
            return False
        try:
            opener.open(server.endpoint, timeout=5).close()
            return True
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def _minio(folder: Path, port: int, access: str, secret: str) -> tuple[list[str], dict[str, str]]:
    (folder / "data").mkdir(exist_ok=True)
    command = [_binary("minio"), "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder / "data")]
    return command, {"MINIO_ROOT_USER": access, "MINIO_ROOT_PASSWORD": secret, "MINIO_BROWSER": "off"}


def _versitygw(folder: Path, port: int, access: str, secret: str) -> tuple[list[str], dict[str, str]]:
    (folder / "data").mkdir(exist_ok=True)
    command = [_binary("versitygw"), "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder / "data")]
    return command, {"ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret}


def _moto(folder: Path, port: int, access: str, secret: str) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], {}


def _binary(name: str) -> str:
    folder = binaries()
    assert folder is not None, f"{name} was not announced by available()"
    return str(folder / name)


_COMMANDS: dict[str, Callable[[Path, int, str, str], tuple[list[str], dict[str, str]]]] = {
    "minio": _minio,
    "versitygw": _versitygw,
    "moto": _moto,
}
