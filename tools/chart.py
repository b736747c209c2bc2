#!/usr/bin/env python3
"""Writes charts/conveyor/values.schema.json and README.md from values.yaml and the schema of the settings.

`--check` writes nothing and says what is not current; exit status 1 then. Run in the project's venv: `make chart`.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from chart_docs.readme import readme  # noqa: E402 - the path is set first
from chart_docs.schema import values_schema  # noqa: E402 - see above
from chart_docs.values import read_values  # noqa: E402 - see above

CHART = ROOT / "charts" / "conveyor"


def generated() -> dict[Path, str]:
    """File → what it should hold."""
    from pipelines.config import to_schema
    from pipelines.graph import GRAPH

    values = read_values((CHART / "values.yaml").read_text(encoding="utf-8"))
    template = (CHART / "README.md.in").read_text(encoding="utf-8")
    return {
        CHART / "values.schema.json": values_schema(values, json.loads(to_schema(GRAPH))),
        CHART / "README.md": readme(template, values),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    stale = []
    for path, text in generated().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not check:
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{'not current' if check else 'written'}: {path.relative_to(ROOT)}")
    if check and stale:
        print("to do: make chart")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
