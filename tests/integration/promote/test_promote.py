"""The whole step on real models: first champions, challengers, refusals, rollbacks, reruns."""

import json
from typing import Any

import pytest

from components.common.canonical import digest_bytes
from components.common.errors import StepError
from components.common.refs import PromotionRef
from components.common.step import Outcome
from components.common.store import open_store
from components.common.trees import Tree
from components.models.predictor import Predictor
from components.promote.documents import Move
from components.promote.registry import Pointer, Registry
from components.promote.run import registry_name
from components.promote.testset import test_images as images_of
from pipelines.cli import invoke

pytestmark = pytest.mark.integration


def output(outcome: Outcome) -> PromotionRef:
    assert isinstance(outcome.output, PromotionRef)
    return outcome.output


def models(case: Any, *arguments: str) -> int:
    path = case.store.url.removeprefix("file://")
    return invoke(["models", *arguments, "--store", path])


def test_the_first_champion_is_registered_whole(case: Any) -> None:
    outcome = case.promote()
    ref, registry = output(outcome), case.registry
    assert (ref.promoted, ref.model_version, ref.champion_before) == (True, 1, None)
    assert ref.gates == {"min_accuracy": True, "min_class_recall": True, "not_rolled_back": True}
    assert registry.pointer().champion == 1
    keys = {
        info.key.removeprefix("registry/digits/versions/1/") for info in case.store.list("registry/digits/v")
    }
    assert keys == {
        "version.json",
        "decision.json",
        "MODEL_CARD.md",
        "digits/config.pbtxt",
        "digits/labels.txt",
        "digits/1/model.onnx",
    }
    version = registry.version(1)
    assert digest_bytes(registry.read_model(version)) == ref.model == version.spec.model
    assert set(version.lineage["references"]) == {"snapshot", "shards", "model", "evaluation", "compressed"}
    assert set(Tree.read(case.world.blobs, ref.tree)) == {"model.onnx", "spec.json", "gates.json"}


def test_a_registered_version_predicts_what_was_judged(case: Any) -> None:
    case.promote()
    version = case.registry.version(1)
    predictor = Predictor(version.spec, case.registry.read_model(version))
    images = images_of(case.world.snapshot, case.world.blobs)
    data = []
    for image in images:
        with case.world.blobs.open(image.pack, image.offset, image.length) as stream:
            data.append(stream.read())
    labels = predictor.predict(data).labels
    right = [version.spec.classes[k] == image.class_name for k, image in zip(labels, images, strict=True)]
    assert len(right) == case.world.shards.splits["test"]
    assert sum(right) / len(right) == pytest.approx(version.metrics["accuracy"])


def test_an_unchanged_rerun_is_reused_though_the_champion_changed_by_it(case: Any) -> None:
    first = case.promote()
    again = case.promote()
    assert (again.state, again.key, again.output) == ("reused", first.key, first.output)
    assert case.registry.numbers() == [1]
    assert len(case.registry.pointer().document.moves) == 1


def test_an_equal_challenger_succeeds_the_champion(case: Any) -> None:
    case.promote("fp32")
    ref = output(case.promote("int8"))
    assert (ref.promoted, ref.model_version, ref.champion_before) == (True, 2, 1)
    assert set(ref.gates) == {
        "min_accuracy",
        "min_class_recall",
        "not_rolled_back",
        "classes",
        "not_inferior",
        "no_class_worse",
    }
    assert case.registry.pointer().champion == 2
    # A superseded champion is no news: its own pipeline's result stays what it was.
    assert case.promote("int8").state == "reused"


def test_a_worse_challenger_is_refused_and_registered(case: Any) -> None:
    case.promote()
    ref = output(case.promote("bad"))
    assert not ref.promoted
    assert (ref.model_version, ref.champion_before) == (2, 1)
    assert not ref.gates["not_inferior"]
    assert "not shown to be non-inferior" in ref.reason
    assert case.registry.pointer().champion == 1
    assert case.promote("bad").state == "reused"
    assert models(case, "promote", "2") == 4
    assert case.registry.pointer().champion == 1


def test_latency_and_size_gates_use_what_is_measured_here(case: Any) -> None:
    case.promote("int8")
    outcome = case.promote("fp32", max_size_ratio=2.0, max_latency_ratio=1e-6)
    ref = output(outcome)
    assert {name for name, passed in ref.gates.items() if not passed} == {"size", "latency"}
    measured = outcome.measurements["gates"]["latency"]
    assert measured["ratio"] == pytest.approx(measured["latency_ms"] / measured["champion_latency_ms"])
    gates = json.loads(case.world.blobs.read(Tree.read(case.world.blobs, ref.tree)["gates.json"].digest))
    assert "measured" not in json.dumps(gates)
    assert set(outcome.measurements["latency"]["batch_1"]) == {"1", "2"}


def test_what_was_rolled_back_comes_back_only_by_force(case: Any) -> None:
    case.promote("fp32")
    promoted = case.promote("int8")
    assert models(case, "rollback") == 0
    assert case.registry.pointer().champion == 1
    refused = case.promote("int8")
    assert refused.key != promoted.key
    assert not output(refused).promoted
    assert not output(refused).gates["not_rolled_back"]
    assert output(refused).model_version == 2
    assert models(case, "promote", "2") == 4
    assert models(case, "promote", "2", "--force") == 0
    assert case.registry.pointer().champion == 2
    forced = case.promote("int8")
    assert (forced.state, forced.key) == ("reused", promoted.key)
    assert models(case, "rollback") == 0
    assert models(case, "rollback") == 2, "there is nothing left to go back to"
    assert models(case, "rollback", "--to", "2") == 0
    assert [m.action for m in case.registry.pointer().document.moves] == [
        "promote",
        "promote",
        "rollback",
        "force",
        "rollback",
        "rollback",
    ]


def test_the_champion_before_last_is_reused_after_a_rollback_to_it(case: Any) -> None:
    first = case.promote("fp32")
    case.promote("int8")
    models(case, "rollback")
    again = case.promote("fp32")
    assert (again.state, again.key) == ("reused", first.key)


def test_a_forced_champion_counts_as_promoted_by_hand(case: Any) -> None:
    case.promote("int8")
    refused = case.promote("bad")
    assert models(case, "promote", "2", "--force") == 0
    by_hand = case.promote("bad")
    assert by_hand.key != refused.key
    assert output(by_hand).promoted
    assert output(by_hand).reason.startswith("promoted by hand")
    assert not output(by_hand).gates["not_inferior"]
    assert case.promote("bad").state == "reused"
    assert case.registry.pointer().champion == 2


def test_stricter_gates_judge_the_champion_anew_but_do_not_unseat_it(case: Any) -> None:
    case.promote()
    accuracy = case.challengers["int8"].candidates[0].accuracy
    ref = output(case.promote(min_accuracy=min(1.0, accuracy + 1e-6)))
    assert ref.promoted == (accuracy == 1.0)
    if not ref.promoted:
        assert "it stays the champion until it is rolled back" in ref.reason
    looser = output(case.promote(min_accuracy=0.1))
    assert (looser.promoted, looser.model_version, looser.champion_before) == (True, 1, None)
    assert case.registry.pointer().champion == 1
    assert case.registry.numbers() == [1]


def test_who_loses_the_race_is_compared_with_the_winner(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case.promote("fp32")
    real = Registry.move

    def slow(self: Registry, pointer: Pointer, move: Move) -> bool:
        monkeypatch.setattr(Registry, "move", real)
        # Meanwhile a person makes version 2 the champion: the pointer's tag is another one then.
        assert models(case, "promote", "2", "--force") == 0
        return real(self, pointer, move)

    case.promote("bad")
    monkeypatch.setattr(Registry, "move", slow)
    ref = output(case.promote("int8"))
    assert (ref.promoted, ref.model_version, ref.champion_before) == (True, 3, 2)
    assert [(m.before, m.after) for m in case.registry.pointer().document.moves] == [
        (None, 1),
        (1, 2),
        (2, 3),
    ]
    assert case.promote("int8").output == ref


def test_a_pointer_that_never_rests_ends_in_an_error(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "move", lambda *_: False)
    with pytest.raises(StepError, match="kept changing") as raised:
        case.promote()
    assert "8 lost races" in str(raised.value)


def test_a_model_that_answers_otherwise_than_it_was_judged_is_not_registered_as_good(case: Any) -> None:
    compressed = case.challengers["int8"]
    wrong = compressed.candidates[0].model_copy(update={"accuracy": 0.3})
    case.challengers["wrong"] = compressed.model_copy(update={"candidates": (wrong,)})
    with pytest.raises(StepError, match="otherwise than the shards"):
        case.promote("wrong")
    assert case.registry.pointer().champion is None


def test_the_registry_is_called_after_the_data_set_or_the_setting(case: Any) -> None:
    assert output(case.promote()).registry == "digits"
    assert output(case.promote(registry="mine")).registry == "mine"
    named = case.world.snapshot.model_copy(update={"dataset": "my cats & dogs/2024 "})
    from components.promote.config import PromoteConfig

    assert registry_name(PromoteConfig(), named) == "my-cats-dogs-2024"
    assert registry_name(PromoteConfig(), named.model_copy(update={"dataset": "…"})) == "model"


def test_on_an_s3_server(case: Any, s3_store_url: str) -> None:
    remote = open_store(s3_store_url)
    for info in case.store.list():
        remote.put(info.key, case.store.read(info.key)[0])
    there = case.on(remote)
    assert output(there.promote("fp32")).promoted
    ref = output(there.promote("int8"))
    assert (ref.promoted, ref.champion_before) == (True, 1)
    assert there.promote("int8").state == "reused"
    assert there.registry.pointer().champion == 2
