"""The code version: what counts and what does not."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.common import code
from components.common.code import code_version


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A step `stepsandbox.grow` that imports a neighbour."""
    root = tmp_path / "stepsandbox"
    write(root / "__init__.py", "")
    write(root / "helper.py", "def double(x):\n    return 2 * x\n")
    write(root / "unused.py", "VALUE = 1\n")
    write(root / "grow" / "__init__.py", '"""Grow."""\n')
    write(
        root / "grow" / "run.py",
        "from stepsandbox.helper import double\n\ndef run(x):\n    return double(x)\n",
    )
    write(root / "grow" / "component.py", "import nothing_of_the_kind\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield root
    forget()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def forget() -> None:
    code_version.cache_clear()
    code._source.cache_clear()
    code._read.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "stepsandbox"]:
        del sys.modules[name]


def version() -> str:
    forget()
    return code_version("stepsandbox.grow")


def test_comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    before = version()
    write(
        package / "helper.py",
        '''
        """Doubles things."""
        # a comment
        def double(x):
            """Twice x."""

            return (2
                    * x)
        ''',
    )
    assert version() == before


def test_a_changed_expression_counts(package: Path) -> None:
    before = version()
    write(package / "helper.py", "def double(x):\n    return 3 * x\n")
    assert version() != before


def test_what_is_not_imported_does_not_count(package: Path) -> None:
    before = version()
    write(package / "unused.py", "VALUE = 2\n")
    assert version() == before


def test_a_step_counts_all_of_its_own_folder_except_its_wrappers(package: Path) -> None:
    before = version()
    write(package / "grow" / "component.py", "VALUE = 2\n")
    write(package / "grow" / "__main__.py", "VALUE = 2\n")
    assert version() == before
    write(package / "grow" / "worker.py", "VALUE = 2\n")
    assert version() != before


@pytest.mark.parametrize(
    "statement",
    [
        "from ..helper import double",
        "from .. import helper",
        "import stepsandbox.helper",
        "def late():\n    from stepsandbox import helper\n    return helper",
    ],
)
def test_every_way_of_importing_is_followed(package: Path, statement: str) -> None:
    write(package / "grow" / "run.py", f"{statement}\n")
    before = version()
    write(package / "helper.py", "def double(x):\n    return 5 * x\n")
    assert version() != before


def test_importing_a_package_counts_its_init(package: Path) -> None:
    write(package / "shared" / "__init__.py", "SCALE = 1\n")
    write(package / "shared" / "part.py", "VALUE = 1\n")
    write(package / "grow" / "run.py", "from stepsandbox.shared.part import VALUE\n")
    before = version()
    write(package / "shared" / "__init__.py", "SCALE = 2\n")
    assert version() != before


def test_a_field_moved_between_branches_counts(package: Path) -> None:
    write(package / "helper.py", "def double(x):\n    if x:\n        x += 1\n        x += 2\n    return x\n")
    before = version()
    write(package / "helper.py", "def double(x):\n    if x:\n        x += 1\n    x += 2\n    return x\n")
    assert version() != before


def test_a_removed_else_branch_counts(package: Path) -> None:
    write(package / "helper.py", "def double(x):\n    if x:\n        return 1\n    else:\n        return 2\n")
    before = version()
    write(package / "helper.py", "def double(x):\n    if x:\n        return 1\n    else:\n        return 3\n")
    assert version() != before


def test_carriers_do_not_count(package: Path) -> None:
    write(package / "grow" / "run.py", "VALUE = 1\n")
    before = version()
    write(package / "grow" / "run.py", "VALUE = 1\n# from components.common.errors import InputError\n")
    assert version() == before
    assert code._is_carrier("components.common.store.s3")
    assert not code._is_carrier("components.common.refs")


def test_nothing_is_imported_for_it(package: Path) -> None:
    write(package / "helper.py", "raise AssertionError('imported')\n")
    write(package / "grow" / "run.py", "from stepsandbox.helper import double\n")
    version()
    assert "stepsandbox.helper" not in sys.modules


def test_a_package_that_imports_its_own_modules_by_a_dot_counts_them(package: Path) -> None:
    write(package / "shared" / "__init__.py", "from .part import VALUE\n")
    write(package / "shared" / "part.py", "VALUE = 1\n")
    write(package / "grow" / "run.py", "from stepsandbox.shared import VALUE\n")
    before = version()
    write(package / "shared" / "part.py", "VALUE = 2\n")
    assert version() != before
