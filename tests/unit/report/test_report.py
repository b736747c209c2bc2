"""The run's report: complete where the run is, honest where it is not, safe whatever names hold."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from components.common.errors import InputError, StepError
from components.common.store import Store, open_store
from pipelines.report import render_run_report, write_run_report
from support.reported_run import STEPS, write_run

NASTY = '<script>alert("x")</script>'
NASTY_FILE = '"><img src=x onerror=alert(1)>/ä&amp;.png'
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects a page's structure, and fails where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style"} & set(self.open):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def page(store: Store, run_id: str = "r1") -> Page:
    return Page(render_run_report(store, run_id).decode())


def test_a_whole_run(store: Store) -> None:
    write_run(store, "r1")
    data = render_run_report(store, "r1")
    found = Page(data.decode())
    words = found.words()
    assert [a["id"] for a in found.all("section")] == [
        "steps",
        "data",
        "training",
        "evaluation",
        "compression",
        "promotion",
        "lineage",
    ]
    for expected in (
        "Promoted: digits version 3 is the champion",
        "int8-pruned-50",
        "17.6 × faster than 0.72 ms",
        "Some CPU at 2 GHz, 2 threads",
        "1,787 images of 10 classes were accepted",
        "label conflict",
        "Most confident mistakes",
        "not inferior at a margin of 0.56 points",
        "nothing would be left of a layer",
    ):
        assert expected in words
    assert len(data) < 1_000_000
    assert data == render_run_report(store, "r1")


def test_it_is_one_file_without_script(store: Store) -> None:
    write_run(store, "r1")
    html = render_run_report(store, "r1").decode()
    found = Page(html)
    assert not found.all("script")
    assert not found.all("link")
    policy = next(a for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")
    for _, attributes in found.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
    assert not re.search(r"https?://|@import|url\(", html)


def test_it_can_be_read_by_those_who_do_not_see(store: Store) -> None:
    write_run(store, "r1")
    found = page(store)
    assert len(found.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(a.get("scope") in {"col", "row"} for a in found.all("th"))
    assert all(a.get("aria-label") or a.get("aria-hidden") for a in found.all("svg"))
    assert all(a.get("alt") for a in found.all("img"))
    names = {a["id"] for _, a in found.tags if "id" in a}
    assert all((a["href"] or "")[1:] in names for a in found.all("a"))


def test_names_from_outside_are_text(store: Store) -> None:
    classes = (NASTY, "</style><b>", "{{ 7 * 7 }}", "x" * 300)
    write_run(store, "r1", classes=classes, file_name=NASTY_FILE, dataset="<i>data</i>")
    html = render_run_report(store, "r1").decode()
    found = Page(html)
    assert not found.all("script")
    assert not found.all("i")
    assert all("onerror" not in a for a in found.all("img"))
    assert NASTY in found.words()
    assert NASTY_FILE in found.words()
    assert "{{ 7 * 7 }}" in found.words()


@pytest.mark.parametrize("num", range(1, len(STEPS)))
def test_a_run_that_ends_early(store: Store, num: int) -> None:
    write_run(store, "r1", steps=STEPS[:num])
    found = page(store)
    assert "Nothing was promoted" in found.words()
    assert f"The run ends after {STEPS[num - 1]}" in found.words()
    assert "promotion" not in [a["id"] for a in found.all("section")]


def test_a_single_step_of_a_run(store: Store) -> None:
    write_run(store, "r1", steps=("compress",))
    assert "compression" in [a["id"] for a in page(store).all("section")]


def test_a_failed_run_says_what_to_do(store: Store) -> None:
    write_run(store, "r1", steps=STEPS[:3])
    error = StepError("the disk is full", todo="free <some> space")
    words = Page(render_run_report(store, "r1", failed_step="evaluate", error=error).decode()).words()
    assert "The run stopped in evaluate" in words
    assert "the disk is full. To do: free <some> space" in words
    assert "failed" in words


def test_a_refused_model(store: Store) -> None:
    write_run(store, "r1", promoted=False)
    words = page(store).words()
    assert "Not promoted: digits version 3" in words
    assert "refused" in words


def test_latencies_that_nobody_measured(store: Store) -> None:
    write_run(store, "r1", measured=False)
    words = page(store).words()
    assert "Latencies were not measured in this run" in words
    assert "Trade-off" not in words


def test_many_classes_stay_readable(store: Store) -> None:
    write_run(store, "r1", classes=[f"n{i:04}" for i in range(300)], num_test=3000, skill=3)
    data = render_run_report(store, "r1")
    words = Page(data.decode()).words()
    assert len(data) < 1_000_000
    assert "With 300 classes the matrix is too large to read" in words
    assert "The 50 classes with the lowest F1, of 300" in words


def test_a_model_without_a_mistake(store: Store) -> None:
    write_run(store, "r1", skill=50)
    words = page(store).words()
    assert "None: every answer on this split is right." in words
    assert "95 %: 97.9 % – 100.0 %" in words


def test_written_beside_the_run(store: Store, tmp_path: Path) -> None:
    write_run(store, "r1")
    path = Path(write_run_report(store, "r1"))
    assert path == tmp_path / "runs" / "r1" / "report.html"
    assert path.read_bytes() == render_run_report(store, "r1")


def test_no_such_run(store: Store) -> None:
    with pytest.raises(InputError, match="no such run"):
        render_run_report(store, "nothing")
