"""Which builds of the libraries decide what an image's bytes become."""

from importlib.metadata import PackageNotFoundError, version

DALI_NAMES = ("nvidia-dali-cuda130", "nvidia-dali-cuda120", "nvidia-dali-cuda110")


def library_versions(*names: str) -> dict[str, str]:
    """Distribution → version, `none` where it is not installed; `dali` means whichever of its builds is there."""
    return {name: _first_version(DALI_NAMES) if name == "dali" else _first_version((name,)) for name in names}


def _first_version(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "none"
