"""A few of the example's digits, with its planted bad files."""

from pathlib import Path

from pipelines.example import digit_files


def write_small_digits(folder: Path, *, per_class: int = 12) -> Path:
    """Write the first digits of each class and the five bad files; returns the folder."""
    kept: dict[str, int] = {}
    for name, data in digit_files():
        path = folder / name
        planted = path.name.startswith("planted")
        kept[path.parent.name] = kept.get(path.parent.name, 0) + (not planted)
        if planted or kept[path.parent.name] <= per_class:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return folder
