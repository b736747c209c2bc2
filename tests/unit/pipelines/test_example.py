"""`conveyor example digits` writes the same bytes everywhere, and only into folders that are its own."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from components.common.errors import InputError
from pipelines.example import command, digit_files, write_digits


def test_bytes_are_the_committed_ones() -> None:
    """Committed: the demo's figures and everyone's first snapshot hang on them."""
    whole = hashlib.sha256()
    for name, data in sorted(digit_files()):
        whole.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
    assert whole.hexdigest() == DIGEST


DIGEST = "b4fcccbe891d9276f165f3acdfd3ca835d1fc8eee3bdf699f2d95eacc4e3c73d"


def test_pixels_are_the_digits() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    files = dict(digit_files())
    with Image.open(io.BytesIO(files["0/0000.png"])) as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), np.rint(digits.images[0] * 255 / 16))
    assert len(files) == 1797 + 5


def test_a_repeat_touches_nothing(tmp_path: Path) -> None:
    target = tmp_path / "digits"
    result = CliRunner().invoke(command, ["digits", str(target)])
    assert result.exit_code == 0, result.output
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*.png")}
    (target / "5" / "0005.png").write_bytes(b"half")  # killed in the middle
    (target / "5" / "0015.png").unlink()
    write_digits(target)
    after = {path: path.stat().st_mtime_ns for path in target.rglob("*.png")}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed == {"0005.png", "0015.png"}
    assert not list(target.rglob("*.part"))


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        write_digits(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="not a folder"):
        write_digits(tmp_path / "mine.txt")
