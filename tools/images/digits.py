#!/usr/bin/env python3
"""Take the example's data file out of scikit-learn's wheel: 57 KB, where the package and its own needs are 200 MB.

Arguments: the wheel, and the folder for `digits.csv.gz` (pipelines/example.py looks in share/conveyor).
"""

import sys
import zipfile
from pathlib import Path

MEMBER = "sklearn/datasets/data/digits.csv.gz"


def main(wheel: str, folder: str) -> int:
    target = Path(folder) / Path(MEMBER).name
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as file:
        target.write_bytes(file.read(MEMBER))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
