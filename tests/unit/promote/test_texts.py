"""The card and the files for servers."""

from components.common.canonical import digest_bytes
from components.common.refs import Candidate, EvaluationRef
from components.models.latency import Latency
from components.models.spec import ModelSpec
from components.promote.answers import Answers
from components.promote.card import model_card
from components.promote.documents import Version
from components.promote.serving import labels_text, triton_config

DIGEST = digest_bytes(b"")
SPEC = ModelSpec(
    name="int8-pruned-50",
    model=DIGEST,
    size_bytes=12_345,
    classes=("cat", "dog | wolf", "new\nline"),
    image_size=224,
    stored_size=256,
    channels=3,
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6),
)
VERSION = Version(
    registry="pets",
    number=4,
    challenger=DIGEST,
    created="2026-01-02T03:04:05+00:00",
    spec=SPEC,
    metrics={"accuracy": 0.9, "accuracy_validation": 0.91},
    num_test=10,
    lineage={
        "references": {"snapshot": DIGEST},
        "weights": DIGEST,
        "data": {
            "dataset": "pets",
            "num_accepted": 1000,
            "num_quarantined": 3,
            "num_duplicates": 2,
            "splits": {"train": 800, "val": 100, "test": 100},
            "class_counts": {"cat": 400, "dog | wolf": 300, "new\nline": 100},
        },
        "network": {"architecture": "resnet18", "num_parameters": 11_000_000, "epochs": 10},
        "training": {},
        "seed": 17,
        "code": {"train": DIGEST},
    },
)


def card() -> str:
    candidate = Candidate(
        name="int8-pruned-50",
        model=DIGEST,
        precision="int8",
        pruned=0.5,
        size_bytes=12_345,
        num_parameters=7,
        accuracy_validation=0.91,
        accuracy=0.9,
    )
    metrics = {"accuracy": 0.92, "accuracy_low": 0.88, "accuracy_high": 0.95, "ece": 0.0123}
    evaluation = EvaluationRef(tree=DIGEST, model=DIGEST, split="test", num_samples=10, metrics=metrics)
    answers = Answers(["cat"] * 6 + ["dog | wolf"] * 4, ["cat"] * 6 + ["dog | wolf"] * 3 + ["cat"])
    return model_card(
        VERSION, [candidate], evaluation, answers, Latency(1.5, 2.0, 3.0, 9, 1.0), "2 threads, a CPU"
    )


def test_the_card_tells_what_one_must_know() -> None:
    text = card()
    for part in (
        "# pets, version 4",
        "90.00 % (95 %: 59.58 % to 98.21 %, Wilson)",
        "92.00 % (95 %: 88.00 % to 95.00 %, bootstrap)",
        "1.500 ms median, 2.000 ms p95 (2 threads, a CPU)",
        "1,000 images accepted, 3 quarantined",
        "shorter side has 256 pixels, the middle\n224 × 224 cut out".replace("\n", " "),
        "| seed | `17` |",
        "| **int8-pruned-50** | 12,345 |",
        DIGEST,
    ):
        assert part in text.replace("\n224", " 224")


def test_names_of_classes_cannot_break_the_table() -> None:
    rows = [line for line in card().splitlines() if "dog" in line and line.startswith("|")]
    assert rows == ["| dog \\| wolf | 4 | 75.00 % | 30.06 % to 95.44 % |"]


def test_triton_reads_names_shapes_and_labels() -> None:
    text = triton_config("pets", 4, SPEC)
    assert 'name: "pets"' in text
    assert "dims: [ 3, 224, 224 ]" in text
    assert "dims: [ 3 ]" in text
    assert "versions: [ 4 ]" in text
    assert text.count("{") == text.count("}")
    assert labels_text(SPEC) == "cat\ndog | wolf\nnew line\n"
