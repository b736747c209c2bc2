"""What the documentation shows works: commands run, settings load, links lead somewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.config import read_config
from pipelines.graph import GRAPH
from support.snippets import Snippet, links, pages, snippets

ROOT = Path(__file__).resolve().parents[2]
PAGES = pages(ROOT)
SNIPPETS = [snippet for page in PAGES for snippet in snippets(page)]


def name(value: Path | Snippet) -> str:
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return f"{value.page.relative_to(ROOT)}:{value.line}"


def pages_with_commands() -> list[Path]:
    return [p for p in PAGES if any(s.language == "bash" and s.not_run is None for s in snippets(p))]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", pages_with_commands(), ids=name)
def test_commands_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    script = "\n".join(s.body for s in snippets(page) if s.language == "bash" and s.not_run is None)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REPO": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize(
    "snippet", [s for s in SNIPPETS if s.language == "yaml" and s.not_run is None], ids=name
)
def test_settings_shown_are_accepted(snippet: Snippet) -> None:
    read_config(GRAPH, text=snippet.body)


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.language == "python"], ids=name)
def test_python_shown_compiles(snippet: Snippet) -> None:
    compile(snippet.body, name(snippet), "exec")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [target for target in links(page) if not (page.parent / target).exists()]
    assert not dead


def test_every_command_is_marked_or_run() -> None:
    """`sh` and `bash` blocks are commands: a block in `sh` would silently escape the run."""
    escaped = [name(s) for s in SNIPPETS if s.language in {"sh", "shell", "console"} and s.not_run is None]
    assert not escaped
