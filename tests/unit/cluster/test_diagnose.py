"""What pods and Jobs say of themselves, told as a person would; the objects are as a real cluster gave them."""

from typing import Any

import pytest

from components.cluster.diagnose import end_of_pod, trouble_of_job, trouble_of_pod
from components.cluster.verdict import verdict
from components.cluster.views import State
from components.common.errors import GateRefusedError, InputError, StepError

JOB = {
    "metadata": {"name": "conveyor-train-1", "namespace": "ns", "uid": "j"},
    "spec": {"activeDeadlineSeconds": 9},
}


def pod(status: dict[str, Any], *, name: str = "p", index: str | None = None) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": "train"}
    if index is not None:
        labels["batch.kubernetes.io/job-completion-index"] = index
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels},
        "spec": {"nodeName": "n1", "containers": [{"resources": {"limits": {"memory": "1Gi"}}}]},
        "status": status,
    }


def waiting(reason: str, message: str = "", image: str = "conveyor:x") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return pod({"phase": "Pending", "containerStatuses": [{"image": image, "state": state}]})


def ended(
    code: int, *, reason: str = "Error", message: str = "", at: str = "", **more: Any
) -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": at}}
    return pod({"phase": "Failed" if code else "Succeeded", "containerStatuses": [{"state": state}]}, **more)


def event(
    reason: str, message: str, kind: str = "Warning", at: str = "2026-11-23T10:00:00Z"
) -> dict[str, Any]:
    return {"reason": reason, "message": message, "type": kind, "lastTimestamp": at, "metadata": {}}


@pytest.mark.parametrize(
    ("thing", "events", "what", "soon"),
    [
        (
            waiting("ImagePullBackOff", 'Back-off pulling image "conveyor:x"'),
            [event("Failed", 'Failed to pull image "conveyor:x": failed to resolve: conveyor:x: not found')],
            "there is no image conveyor:x",
            True,
        ),
        (
            waiting("ErrImagePull", "failed to authorize: 401 Unauthorized"),
            [],
            "the registry does not give out the image conveyor:x",
            True,
        ),
        (
            waiting("ErrImagePull", "failed to do request: dial tcp: lookup r: i/o timeout"),
            [],
            "the image conveyor:x cannot be pulled",
            False,
        ),
        (waiting("ErrImageNeverPull"), [], "the image conveyor:x is not on the node", True),
        (waiting("InvalidImageName", image="A B"), [], "A B is not an image's name", True),
        (
            waiting("CreateContainerConfigError", 'secret "conveyor-store" not found'),
            [],
            "there is no Secret conveyor-store",
            True,
        ),
        (
            waiting("CreateContainerConfigError", "couldn't find key access-key in Secret ns/conveyor-store"),
            [],
            "the Secret conveyor-store has no key access-key",
            True,
        ),
        (
            pod(
                {
                    "phase": "Pending",
                    "conditions": [
                        {
                            "type": "PodScheduled",
                            "status": "False",
                            "reason": "Unschedulable",
                            "message": "0/1 nodes are available: 1 Insufficient cpu.",
                        }
                    ],
                }
            ),
            [],
            "no node takes the pod",
            False,
        ),
        (
            waiting("ContainerCreating"),
            [event("FailedMount", 'configmap "c" not found')],
            "the pod does not start",
            False,
        ),
    ],
)
def test_why_a_pod_does_not_start(
    thing: dict[str, Any], events: list[dict[str, Any]], what: str, soon: bool
) -> None:
    trouble = trouble_of_pod(thing, events)
    assert trouble is not None
    assert trouble.error.what == what
    assert trouble.error.where == "pod p in the namespace ns on n1"
    assert (trouble.grace_s is not None) is soon


def test_what_is_no_trouble() -> None:
    pulling = [event("Scheduled", "", "Normal"), event("Pulling", 'Pulling image "conveyor:x"', "Normal")]
    assert trouble_of_pod(waiting("ContainerCreating"), pulling) is None
    assert trouble_of_pod(pod({"phase": "Running"}), []) is None
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    assert trouble_of_pod(pod({"phase": "Pending", "conditions": [gated]}), []) is None


@pytest.mark.parametrize(
    ("message", "what", "kind"),
    [
        ("pods is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0",
         "the namespace's quota leaves no room for its pods", StepError),
        ('pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
         "the namespace's Pod Security refuses its pods", InputError),
        ('pods "p" is forbidden: error looking up service account ns/a: serviceaccount "a" not found',
         "there is no ServiceAccount a", InputError),
        ('admission webhook "w" denied the request: no', "the cluster refuses its pods", InputError),
    ],
)  # fmt: skip
def test_why_pods_are_not_made(message: str, what: str, kind: type[Exception]) -> None:
    trouble = trouble_of_job(JOB, [], [event("FailedCreate", message)])
    assert trouble is not None
    assert (trouble.error.what, type(trouble.error)) == (what, kind)


def test_a_refusal_before_the_newest_pod_was_cured() -> None:
    later = pod({"phase": "Running"})
    later["metadata"]["creationTimestamp"] = "2026-11-23T10:00:05Z"
    assert trouble_of_job(JOB, [later], [event("FailedCreate", "exceeded quota")]) is None


def test_how_a_pod_ended() -> None:
    assert end_of_pod(ended(0)) is None
    oom = end_of_pod(ended(137, reason="OOMKilled"))
    assert oom is not None
    assert "ran out of memory" in oom.error.what
    assert oom.error.expected == "at most 1Gi"
    assert oom.error.todo == "give it more: kubernetes.resources.train.memory"
    evicted = end_of_pod(
        pod({"phase": "Failed", "reason": "Evicted", "message": "Usage of EmptyDir volume tmp"})
    )
    assert evicted is not None
    assert "evicted" in evicted.error.what
    assert "disk" in (evicted.error.todo or "")
    killed = end_of_pod(ended(137, message="last words"))
    assert killed is not None
    assert "exit 137: signal 9" in killed.error.what
    assert killed.error.found == "last words"


def test_the_step_s_own_error_and_the_rank_that_tells_most() -> None:
    own = '{"what": "it diverged", "where": "train", "todo": "less", "exit_code": 3}'
    pods = [
        ended(75, name="p1", index="1", at="2026-11-23T10:00:09Z"),
        ended(76, name="p0", index="0", message=own, at="2026-11-23T10:00:08Z"),
        ended(137, name="p2", index="2", at="2026-11-23T10:00:09Z"),
    ]
    error = verdict(JOB, State("failed", "PodFailurePolicy"), pods, [])
    assert type(error) is StepError
    assert (error.what, error.where, error.todo) == (
        "it diverged",
        "train (pod p0 in the namespace ns on n1)",
        "less",
    )
    refused = ended(4, message='{"what": "no", "exit_code": 4}')
    assert isinstance(verdict(JOB, State("failed", "PodFailurePolicy"), [refused], []), GateRefusedError)


def test_after_several_tries_and_past_the_deadline() -> None:
    tries = [ended(3, name=f"p{i}", at=f"2026-11-23T10:00:0{i}Z") for i in range(3)]
    error = verdict(JOB, State("failed", "BackoffLimitExceeded"), tries, [])
    assert "pod p2" in str(error.where)
    assert "after 3 tries" in str(error.where)
    late = verdict(JOB, State("failed", "DeadlineExceeded"), [waiting("ErrImageNeverPull")], [])
    assert "deadline of 9 s" in late.what
    assert "is not on the node" in str(late.found)
    gone = verdict(JOB, State("failed", "BackoffLimitExceeded", "too many"), [], [])
    assert "its pods are gone" in gone.what
