"""The gates: pure functions from what was found to passed or refused, each with its numbers."""

from dataclasses import dataclass

from components.promote.answers import Answers, Comparison, compare
from components.promote.config import PromoteConfig
from components.promote.documents import GateReport
from components.promote.paired import CONFIDENCE, default_margin, lower_bound, upper_bound

MANY_CLASSES = 20


@dataclass(frozen=True)
class Contender:
    """What the gates know of a model."""

    classes: tuple[str, ...]
    size_bytes: int
    answers: Answers
    latency_ms: float | None = None
    """Batch 1, median, where a latency gate is on."""


def judge(
    config: PromoteConfig, challenger: Contender, champion: Contender | None, *, rolled_back: bool
) -> tuple[GateReport, ...]:
    """Every gate's answer. `champion` None: there is none yet, and only the absolute gates ask."""
    gates = [
        min_accuracy(config, challenger),
        min_class_recall(config, challenger),
        not_rolled_back(rolled_back),
    ]
    if config.max_size_bytes is not None:
        gates.append(max_size(config.max_size_bytes, challenger))
    if config.max_latency_ms is not None:
        gates.append(max_latency(config.max_latency_ms, challenger))
    if champion is None:
        return tuple(gates)
    gates.append(same_classes(config, challenger, champion))
    comparison = compare(
        challenger.answers, champion.answers, set(challenger.classes) & set(champion.classes)
    )
    gates += [not_inferior(config, comparison), no_class_worse(config, comparison)]
    if config.max_size_ratio is not None:
        gates.append(size_ratio(config.max_size_ratio, challenger, champion))
    if config.max_latency_ratio is not None:
        gates.append(latency_ratio(config.max_latency_ratio, challenger, champion))
    return tuple(gates)


def min_accuracy(config: PromoteConfig, model: Contender) -> GateReport:
    accuracy, num = model.answers.accuracy, len(model.answers)
    if config.min_accuracy is not None:
        least, passed = config.min_accuracy, accuracy >= config.min_accuracy
        wanted = f"at least {_percent(least)} is required"
    else:
        least = max(model.answers.support().values(), default=0) / max(num, 1)
        passed = accuracy > least
        wanted = f"always answering the commonest class would reach {_percent(least)}"
    return GateReport(
        name="min_accuracy",
        passed=passed and num > 0,
        detail=f"accuracy {_percent(accuracy)} of {num} test images; {wanted}",
        numbers={"accuracy": accuracy, "num_images": num, "least": least},
    )


def min_class_recall(config: PromoteConfig, model: Contender) -> GateReport:
    floor = 0.5 / len(model.classes) if config.min_class_recall is None else config.min_class_recall
    support = model.answers.support()
    judged = {n: r for n, r in model.answers.recalls().items() if support[n] >= config.min_class_images}
    below = sorted(name for name, recall in judged.items() if recall < floor)
    if below:
        named = ", ".join(f"{name} {_percent(judged[name])} of {support[name]}" for name in below[:5])
        detail = f"recall below {_percent(floor)}: {named}{_more(below)}"
    elif judged:
        worst = min(judged, key=lambda name: (judged[name], name))
        detail = f"lowest recall {_percent(judged[worst])} ({worst}); at least {_percent(floor)} is required"
    else:
        detail = f"no class has the {config.min_class_images} test images that a judgement needs"
    return GateReport(
        name="min_class_recall",
        passed=not below,
        detail=detail,
        numbers={
            "floor": floor,
            "lowest": min(judged.values(), default=None),
            "num_below": len(below),
            "num_judged": len(judged),
        },
    )


def not_rolled_back(rolled_back: bool) -> GateReport:
    detail = "this very model was rolled back before" if rolled_back else "this model was never rolled back"
    return GateReport(name="not_rolled_back", passed=not rolled_back, detail=detail)


def same_classes(config: PromoteConfig, model: Contender, champion: Contender) -> GateReport:
    new = sorted(set(model.classes) - set(champion.classes))
    gone = sorted(set(champion.classes) - set(model.classes))
    changes = [f"new: {', '.join(new[:5])}{_more(new)}"] if new else []
    changes += [f"gone: {', '.join(gone[:5])}{_more(gone)}"] if gone else []
    allowed = {"refuse": not new and not gone, "allow_superset": not gone, "allow": True}
    passed = allowed[config.class_change]
    detail = f"the classes changed ({'; '.join(changes)})" if changes else "the classes are the champion's"
    if changes:
        detail += f"; the policy is {config.class_change}"
    if not passed:
        wider = "allow_superset" if not gone else "allow"
        detail += f"; set promote.class_change: {wider} to accept it"
    return GateReport(
        name="classes", passed=passed, detail=detail, numbers={"num_new": len(new), "num_gone": len(gone)}
    )


def not_inferior(config: PromoteConfig, comparison: Comparison) -> GateReport:
    """Paired non-inferiority: the one-sided 95 % lower bound of the difference is not below −margin.

    At a margin of 0 that is superiority: the bound of an equal model is below 0.
    """
    pairs = comparison.pairs
    margin = default_margin(pairs.num_images) if config.margin is None else config.margin
    if not pairs.num_images:
        # Only the policy `allow` can lead here with its own gate passed.
        return GateReport(
            name="not_inferior",
            passed=True,
            detail="no test image has a class that both models know: there is nothing to compare",
            numbers={"num_images": 0, "margin": margin},
        )
    bound = lower_bound(pairs)
    passed = bound >= -margin
    if margin:
        verb = (
            f"{'not inferior' if passed else 'not shown to be non-inferior'} at a margin of {_points(margin)}"
        )
    else:
        verb = "better" if passed else "not shown to be better"
    return GateReport(
        name="not_inferior",
        passed=passed,
        detail=f"{verb}: difference {_signed(pairs.difference)}, with "
        f"{_percent(CONFIDENCE, 0)} confidence above {_signed(bound)} (better on {pairs.won}, worse on {pairs.lost} "
        f"of {pairs.num_images} images)",
        numbers={
            "difference": pairs.difference,
            "lower_bound": bound,
            "margin": margin,
            "won": pairs.won,
            "lost": pairs.lost,
            "num_images": pairs.num_images,
            "confidence": CONFIDENCE,
        },
    )


def no_class_worse(config: PromoteConfig, comparison: Comparison) -> GateReport:
    """No class is shown to have lost more than `max_class_drop`.

    The burden of proof is the other way round here: a class has few test images. With more than twenty classes the
    level is shared out (95 % for twenty, stricter in proportion), so that many classes do not refuse by chance.
    """
    judged = {n: p for n, p in comparison.by_class.items() if p.num_images >= config.min_class_images}
    confidence = 1 - (1 - CONFIDENCE) / max(len(judged) / MANY_CLASSES, 1)
    bounds = {name: upper_bound(pairs, confidence) for name, pairs in judged.items()}
    worse = sorted(name for name, bound in bounds.items() if bound < -config.max_class_drop)
    if worse:
        named = ", ".join(f"{name} {_signed(judged[name].difference)}" for name in worse[:5])
        detail = f"lost more than {_points(config.max_class_drop)} of recall: {named}{_more(worse)}"
    else:
        detail = f"no class is shown to have lost more than {_points(config.max_class_drop)} of recall"
    return GateReport(
        name="no_class_worse",
        passed=not worse,
        detail=detail,
        numbers={
            "max_drop": config.max_class_drop,
            "largest_drop": -min((p.difference for p in judged.values()), default=0.0),
            "num_worse": len(worse),
            "num_judged": len(judged),
        },
    )


def max_size(limit: int, model: Contender) -> GateReport:
    return GateReport(
        name="max_size",
        passed=model.size_bytes <= limit,
        detail=f"{model.size_bytes:,} bytes; at most {limit:,} are allowed",
        numbers={"size_bytes": model.size_bytes, "limit": limit},
    )


def size_ratio(limit: float, model: Contender, champion: Contender) -> GateReport:
    ratio = model.size_bytes / champion.size_bytes
    return GateReport(
        name="size",
        passed=ratio <= limit,
        detail=f"{ratio:.2f} times the champion's size; at most {limit:g} is allowed",
        numbers={"ratio": ratio, "limit": limit},
    )


def max_latency(limit_ms: float, model: Contender) -> GateReport:
    assert model.latency_ms is not None
    passed = model.latency_ms <= limit_ms
    return GateReport(
        name="max_latency",
        passed=passed,
        detail=f"latency {'within' if passed else 'above'} the limit of {limit_ms:g} ms",
        numbers={"limit_ms": limit_ms},
        measured={"latency_ms": model.latency_ms},
    )


def latency_ratio(limit: float, model: Contender, champion: Contender) -> GateReport:
    assert model.latency_ms is not None
    assert champion.latency_ms is not None
    ratio = model.latency_ms / champion.latency_ms
    passed = ratio <= limit
    return GateReport(
        name="latency",
        passed=passed,
        detail=f"latency {'within' if passed else 'above'} {limit:g} times the champion's",
        numbers={"limit": limit},
        measured={
            "ratio": ratio,
            "latency_ms": model.latency_ms,
            "champion_latency_ms": champion.latency_ms,
        },
    )


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def _signed(share: float) -> str:
    return f"{100 * share:+.2f} points".replace("-", "\N{MINUS SIGN}")


def _more(names: list[str]) -> str:
    return f" and {len(names) - 5} more" if len(names) > 5 else ""
