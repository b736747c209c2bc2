from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from components.promote.answers import Answers, compare
from components.promote.config import PromoteConfig
from components.promote.gates import Contender, judge
from components.promote.paired import Paired

CLASSES = ("a", "b", "c")
TRUTH = [CLASSES[i % 3] for i in range(180)]


def contender(
    mistakes: Iterable[int] = (),
    *,
    classes: tuple[str, ...] = CLASSES,
    size: int = 1000,
    latency: float = 1.0,
    truth: Sequence[str] = TRUTH,
) -> Contender:
    """A model that says something else to the images at these positions."""
    said: list[str | None] = list(truth)
    for position in mistakes:
        said[position] = "a" if truth[position] != "a" else "b"
    return Contender(classes, size, Answers(truth, said), latency)


def results(
    challenger: Contender, champion: Contender | None = None, *, rolled_back: bool = False, **settings: Any
) -> dict[str, bool]:
    gates = judge(PromoteConfig(**settings), challenger, champion, rolled_back=rolled_back)
    return {gate.name: gate.passed for gate in gates}


def refused(*args: Any, **settings: Any) -> set[str]:
    return {name for name, passed in results(*args, **settings).items() if not passed}


def test_a_first_champion_meets_the_absolute_gates_only() -> None:
    assert results(contender()) == {"min_accuracy": True, "min_class_recall": True, "not_rolled_back": True}


def test_what_is_no_better_than_the_commonest_class_is_refused() -> None:
    always_a = Contender(CLASSES, 1, Answers(TRUTH, ["a"] * 180))
    assert refused(always_a) == {"min_accuracy", "min_class_recall"}
    assert refused(always_a, min_accuracy=0.3, min_class_recall=0.0) == set()


def test_a_set_accuracy_is_a_threshold() -> None:
    model = contender(range(9))  # 95 %
    assert refused(model, min_accuracy=0.95) == set()
    assert refused(model, min_accuracy=0.951) == {"min_accuracy"}


def test_no_test_image_is_no_pass() -> None:
    assert "min_accuracy" in refused(contender(truth=[]))


def test_each_class_has_its_floor_where_it_has_enough_images() -> None:
    half_of_b = [i for i in range(180) if TRUTH[i] == "b"][:30]
    assert refused(contender(half_of_b), min_class_recall=0.5) == set()
    assert refused(contender(half_of_b), min_class_recall=0.51) == {"min_class_recall"}
    few = ["a", "b"] * 20 + ["c"] * 4
    model = contender([40, 41, 42, 43], truth=few)
    assert refused(model, min_class_recall=0.5) == set()
    assert refused(model, min_class_recall=0.5, min_class_images=4) == {"min_class_recall"}


def test_an_image_that_the_model_could_not_read_is_a_mistake() -> None:
    answers = Answers(["a", "b"], ["a", None])
    assert answers.accuracy == 0.5
    assert answers.recalls() == {"a": 1.0, "b": 0.0}


def test_an_equal_or_better_challenger_passes_everything() -> None:
    champion = contender([1, 2, 3])
    assert refused(contender([1, 2, 3]), champion) == set()
    assert refused(contender(), champion) == set()
    assert refused(contender([7, 8, 9]), champion) == set()


def test_a_worse_one_is_refused_and_the_margin_decides() -> None:
    champion, worse = contender([1]), contender(range(1, 9))  # seven more mistakes: 3.9 points
    assert refused(worse, champion) == {"not_inferior"}
    assert refused(worse, champion, margin=0.1) == set()
    report = {g.name: g for g in judge(PromoteConfig(), worse, champion, rolled_back=False)}["not_inferior"]
    assert report.numbers["won"] == 0
    assert report.numbers["lost"] == 7
    assert report.numbers["difference"] == pytest.approx(-7 / 180)
    assert float(report.numbers["lower_bound"] or 0) < -7 / 180


def test_a_margin_of_zero_asks_for_a_better_one() -> None:
    champion = contender([1, 2, 3])
    assert refused(contender([1, 2, 3]), champion, margin=0) == {"not_inferior"}, "equal is not better"
    assert refused(contender([1]), champion, margin=0) == {"not_inferior"}, "two images may be chance"
    assert refused(contender(), champion, margin=0) == set()
    assert refused(contender([4, 5, 6]), champion, margin=0) == {"not_inferior"}
    reports = [
        next(
            g
            for g in judge(PromoteConfig(margin=0), each, champion, rolled_back=False)
            if g.name == "not_inferior"
        )
        for each in (contender(), champion)
    ]
    assert reports[0].detail.startswith("better: difference +1.67 points")
    assert reports[1].detail.startswith("not shown to be better: difference +0.00 points")


def test_a_single_class_that_breaks_is_noticed_though_the_whole_is_fine() -> None:
    # The champion fails on 15 of "a", the challenger on 15 of "c": the accuracy is the same.
    of = {name: [i for i in range(180) if TRUTH[i] == name] for name in CLASSES}
    champion, challenger = contender(of["a"][:15]), contender(of["c"][:15])
    assert refused(challenger, champion, margin=0.2) == {"no_class_worse"}
    assert refused(challenger, champion, margin=0.2, max_class_drop=0.5) == set()


def test_size_and_latency_are_against_the_champion() -> None:
    champion = contender(size=1000, latency=1.0)
    assert refused(contender(size=2000, latency=1.5), champion) == set()
    assert refused(contender(size=2001, latency=1.51), champion) == {"size", "latency"}
    off: dict[str, Any] = {"max_size_ratio": None, "max_latency_ratio": None}
    assert refused(contender(size=10**6, latency=99.0), champion, **off) == set()
    limits = {"max_size_bytes": 999, "max_latency_ms": 0.5}
    assert refused(contender(), **limits) == {"max_size", "max_latency"}


def test_what_a_clock_said_stays_apart() -> None:
    for gate in judge(
        PromoteConfig(max_latency_ms=9.0), contender(latency=1.2345), contender(), rolled_back=False
    ):
        assert "1.23" not in gate.detail
        assert "latency_ms" not in gate.numbers
        if gate.name in ("latency", "max_latency"):
            assert gate.measured["latency_ms"] == 1.2345


def test_what_was_rolled_back_is_refused() -> None:
    assert refused(contender(), rolled_back=True) == {"not_rolled_back"}


@pytest.mark.parametrize(
    ("new", "policy", "passed"),
    [
        (("a", "b", "c", "d"), "refuse", False),
        (("a", "b", "c", "d"), "allow_superset", True),
        (("a", "b", "c", "d"), "allow", True),
        (("a", "b"), "refuse", False),
        (("a", "b"), "allow_superset", False),
        (("a", "b"), "allow", True),
        (("a", "b", "x"), "allow_superset", False),
        (("c", "b", "a"), "refuse", True),
    ],
)
def test_changed_classes_follow_the_policy(new: tuple[str, ...], policy: str, passed: bool) -> None:
    truth = [new[i % len(new)] for i in range(120)]
    challenger = contender(classes=new, truth=truth)
    champion = contender([i for i, t in enumerate(truth) if t not in CLASSES], truth=truth)
    assert refused(challenger, champion, class_change=policy) == (set() if passed else {"classes"})


def test_images_of_classes_that_only_one_knows_are_not_compared() -> None:
    truth = ["a", "b", "new", "new"]
    champion = Answers(truth, ["a", "a", "a", "b"])
    challenger = Answers(truth, ["a", "b", "new", "a"])
    found = compare(challenger, champion, {"a", "b"})
    assert found.pairs == Paired(2, won=1, lost=0)
    assert found.by_class == {"a": Paired(1, 0, 0), "b": Paired(1, 1, 0)}


def test_nothing_in_common_is_said_and_not_judged() -> None:
    truth = ["x", "y"] * 30
    challenger = contender(classes=("x", "y"), truth=truth)
    champion = Contender(CLASSES, 1000, Answers(truth, ["a"] * 60), 1.0)
    assert refused(challenger, champion, class_change="allow") == set()


def test_answers_to_different_images_are_a_fault() -> None:
    with pytest.raises(ValueError, match="different images"):
        compare(Answers(["a"], ["a"]), Answers(["b"], ["b"]), {"a", "b"})
