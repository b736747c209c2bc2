"""A person's last word before promotion: what passes the gates is registered, and the pointer waits."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.common.refs import PromotionRef
from pipelines.cli import invoke

pytestmark = pytest.mark.integration


def promotion(case: Any, name: str = "int8", **settings: Any) -> PromotionRef:
    ref = case.promote(name, **settings).output
    assert isinstance(ref, PromotionRef)
    return ref


def models(case: Any, *arguments: str) -> int:
    return invoke(["models", *arguments, "--store", case.store.url.removeprefix("file://")])


def states(case: Any, capsys: pytest.CaptureFixture[str]) -> dict[int, str]:
    capsys.readouterr()
    assert models(case, "list", "--json") == 0
    return {row["version"]: row["state"] for row in json.loads(capsys.readouterr().out)["versions"]}


def test_the_pointer_moves_only_by_a_person(case: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ref = promotion(case, approval=True)
    assert (ref.promoted, ref.awaiting_approval, ref.model_version) == (False, True, 1)
    assert all(ref.gates.values())
    assert "awaiting approval (conveyor models promote 1)" in ref.reason
    assert case.registry.pointer().champion is None
    assert states(case, capsys) == {1: "awaiting approval"}
    card = case.registry.read_text(1, "MODEL_CARD.md")
    assert "conveyor models promote 1" in card
    # Asked again before the word: the same answer.
    again = case.promote(approval=True)
    assert (again.state, again.output) == ("reused", ref)

    assert models(case, "promote", "1") == 0
    assert "approve: approved by hand" in capsys.readouterr().out
    assert case.registry.pointer().champion == 1
    assert states(case, capsys) == {1: "champion"}
    # And after it: the run of the same challenger says that it is the champion.
    after = promotion(case, approval=True)
    assert (after.promoted, after.awaiting_approval, after.model_version) == (True, False, 1)
    assert after.reason.startswith("approved by hand")
    assert case.registry.pointer().champion == 1


def test_what_the_gates_refuse_awaits_nothing(case: Any, capsys: pytest.CaptureFixture[str]) -> None:
    promotion(case, "fp32")
    ref = promotion(case, "bad", approval=True)
    assert (ref.promoted, ref.awaiting_approval) == (False, False)
    assert models(case, "promote", "2") == 4
    assert states(case, capsys) == {1: "champion", 2: "refused"}


def test_an_approval_that_comes_too_late_is_refused(case: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It was compared with another champion than the one that it would replace."""
    promotion(case, "fp32", approval=True)
    promotion(case, "int8")
    assert case.registry.pointer().champion == 2
    assert models(case, "promote", "1") == 4
    err = capsys.readouterr().err
    assert "compared with no champion, and the champion is version 2 by now" in err
    # Its pipeline compares anew, and a person may say yes then.
    ref = promotion(case, "fp32", approval=True)
    assert (ref.awaiting_approval, ref.champion_before) == (True, 2)
    assert models(case, "promote", "1") == 0
    assert case.registry.pointer().champion == 1


def test_a_rolled_back_version_is_not_approved(case: Any, capsys: pytest.CaptureFixture[str]) -> None:
    promotion(case, "fp32")
    promotion(case, "int8", approval=True)
    assert models(case, "promote", "2") == 0
    assert models(case, "rollback") == 0
    assert models(case, "promote", "2") == 4
    assert "its model was rolled back" in capsys.readouterr().err
    ref = promotion(case, "int8", approval=True)
    assert (ref.promoted, ref.awaiting_approval, ref.gates["not_rolled_back"]) == (False, False, False)
    assert case.registry.pointer().champion == 1


def test_without_the_setting_the_waiting_one_is_promoted(
    case: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promotion(case, approval=True).awaiting_approval
    ref = promotion(case)
    assert (ref.promoted, ref.model_version) == (True, 1)
    assert states(case, capsys) == {1: "champion"}


def test_an_old_decision_keeps_its_digest(case: Any, tmp_path: Path) -> None:
    """References of decisions from before there were approvals name the same measurements."""
    assert "awaiting_approval" not in promotion(case).to_value()
    assert promotion(case, "fp32", approval=True).to_value()["awaiting_approval"] is True
