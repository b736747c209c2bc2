"""Two models' answers to the same test images, and what follows from them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from components.promote.paired import Paired


@dataclass(frozen=True)
class Answers:
    """True classes of the test images and what a model said to each, by name: indices change when classes do."""

    truth: Sequence[str]
    said: Sequence[str | None]
    """None where the model could not read the image: wrong."""

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def num_right(self) -> int:
        return sum(t == s for t, s in zip(self.truth, self.said, strict=True))

    @property
    def accuracy(self) -> float:
        return self.num_right / len(self) if len(self) else 0.0

    def support(self) -> dict[str, int]:
        """Class → images."""
        return dict(Counter(self.truth))

    def recalls(self) -> dict[str, float]:
        """Class → share of its images that were recognised."""
        right = Counter(t for t, s in zip(self.truth, self.said, strict=True) if t == s)
        return {name: right[name] / num for name, num in self.support().items()}


@dataclass(frozen=True)
class Comparison:
    """Challenger against champion, on images of classes that both know."""

    pairs: Paired
    by_class: dict[str, Paired] = field(default_factory=dict)


def compare(challenger: Answers, champion: Answers, common: set[str]) -> Comparison:
    """Count who got which image right. Both answered the same images in the same order."""
    if list(challenger.truth) != list(champion.truth):
        raise ValueError("the two models answered different images")
    num: Counter[str] = Counter()
    won: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for truth, new, old in zip(challenger.truth, challenger.said, champion.said, strict=True):
        if truth in common:
            num[truth] += 1
            won[truth] += new == truth != old
            lost[truth] += old == truth != new
    by_class = {name: Paired(num[name], won[name], lost[name]) for name in sorted(num)}
    return Comparison(Paired(num.total(), won.total(), lost.total()), by_class)
