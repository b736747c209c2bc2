"""What pods and Jobs say of themselves, told as a person would; the objects are as a real cluster gave them."""

from typing import Any

import pytest

from components.cluster.diagnose import end_of_pod, trouble_of_lost, trouble_of_pod
from components.cluster.refused import trouble_of_job
from components.cluster.trouble import NEVER, SHORT_S, seconds_of
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
        "spec": {
            "nodeName": "n1",
            "containers": [
                {"name": "linkerd-proxy", "resources": {"limits": {"memory": "9Mi"}}},
                {"name": "conveyor", "resources": {"limits": {"memory": "1Gi"}}},
            ],
        },
        "status": status,
    }


def waiting(reason: str, message: str = "", image: str = "conveyor:x") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return pod({"phase": "Pending", "containerStatuses": [PROXY, container(state, image=image)]})


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "conveyor", "state": state, **more}


PROXY = {"name": "linkerd-proxy", "state": {"running": {}}}
"""What a mesh puts first into a pod: it says nothing of the step."""


def ended(
    code: int, *, reason: str = "Error", message: str = "", at: str = "", **more: Any
) -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": at}}
    statuses = [PROXY, container(state)]
    return pod({"phase": "Failed" if code else "Succeeded", "containerStatuses": statuses}, **more)


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
    assert trouble_of_pod(pod({"phase": "Running"}), []) is None
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    assert trouble_of_pod(pod({"phase": "Pending", "conditions": [gated]}), []) is None


def test_an_image_that_is_on_its_way_has_longer_and_not_for_ever() -> None:
    pulling = [event("Scheduled", "", "Normal"), event("Pulling", 'Pulling image "conveyor:x"', "Normal")]
    trouble = trouble_of_pod(waiting("ContainerCreating"), pulling)
    assert trouble is not None
    assert trouble.error.what == "the pod's image is still being pulled"
    assert (trouble.grace_s, trouble.extra_s) == (None, 1500.0)


NO_SSHD = 'exec: "/usr/sbin/sshd": stat /usr/sbin/sshd: no such file or directory: unknown'


def crashing(reason: str, message: str, *, role: str | None = "worker", code: int = 128) -> dict[str, Any]:
    """A container of a pod that runs by its phase, since it is started again and again."""
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}}
    last = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    found = pod({"phase": "Running", "containerStatuses": [PROXY, container(state, lastState=last)]})
    if role:
        found["metadata"]["labels"]["training.kubeflow.org/job-role"] = role
    return found


def test_a_worker_without_sshd_has_the_wrong_image() -> None:
    trouble = trouble_of_pod(crashing("StartError", NO_SSHD), [])
    assert trouble is not None
    assert (trouble.error.what, trouble.grace_s) == ("the image has no ssh server", SHORT_S)
    assert "conveyor:mpi" in str(trouble.error.todo)
    assert isinstance(trouble.error, InputError)


def test_a_container_that_ends_again_and_again_is_told_with_its_last_words() -> None:
    trouble = trouble_of_pod(crashing("Error", "no host key", code=255), [])
    assert trouble is not None
    assert "ends as soon as it is started (exit 255)" in trouble.error.what
    assert (trouble.error.found, trouble.grace_s) == ("no host key", None)
    other = trouble_of_pod(crashing("StartError", "exec format error", role=None), [])
    assert other is not None
    assert other.error.what == "the container cannot be started"


def test_a_pod_on_a_lost_node_is_told_and_never_given_up() -> None:
    lost = pod({"phase": "Running"})
    lost["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z"
    then = seconds_of("2026-11-23T10:00:00Z")
    assert trouble_of_lost(lost, then + 59) is None
    trouble = trouble_of_lost(lost, then + 61)
    assert trouble is not None
    assert "the node n1 does not answer" in trouble.error.what
    assert "kubectl -n ns delete pod p --force" in str(trouble.error.todo)
    assert trouble.grace_s == NEVER
    lost["status"]["phase"] = "Failed"
    assert trouble_of_lost(lost, then + 61) is None


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


MPI_JOB = {
    "kind": "MPIJob",
    "metadata": {"name": "conveyor-train-1", "namespace": "ns", "uid": "m"},
    "spec": {"runPolicy": {"activeDeadlineSeconds": 7}, "mpiReplicaSpecs": {"Worker": {"replicas": 2}}},
}


@pytest.mark.parametrize(
    ("reason", "message", "what", "grace"),
    [
        ("MPIJobFailed", 'worker pod created failed: pods "w-1" is forbidden: exceeded quota: q',
         "the namespace's quota leaves no room for its pods", None),
        ("ValidationError", "Found validation errors: spec.mpiReplicaSpecs[Worker]: Required value",
         "the MPI operator refuses the MPIJob as it is written", SHORT_S),
        ("ErrResourceExists", 'Resource "c" of Kind "Service" already exists and is not managed by MPIJob',
         "an object of the same name is in the MPI operator's way", 3 * SHORT_S),
        ("MPIJobFailed", "worker pod created failed: Internal error occurred: failed calling webhook",
         "its pods cannot be made", None),
    ],
)  # fmt: skip
def test_what_the_mpi_operator_says(reason: str, message: str, what: str, grace: float | None) -> None:
    trouble = trouble_of_job(MPI_JOB, [], [event(reason, message)])
    assert trouble is not None
    assert (trouble.error.what, trouble.grace_s) == (what, grace)
    assert trouble.error.where == "MPIJob conveyor-train-1 in the namespace ns"


def test_the_mpi_operator_s_own_haste_is_no_trouble() -> None:
    late = event("MPIJobFailed", 'worker pod created failed: pods "conveyor-train-1-worker-0" already exists')
    assert trouble_of_job(MPI_JOB, [], [late]) is None


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


def test_what_is_said_of_an_mpi_job_is_its_own() -> None:
    tries = [ended(3, name=f"p{i}", at=f"2026-11-23T10:00:0{i}Z") for i in range(3)]
    error = verdict(MPI_JOB, State("failed", "BackoffLimitExceeded/"), tries, [])
    assert "after 3 tries (kubernetes.training.max_attempts)" in str(error.where)
    late = verdict(MPI_JOB, State("failed", "DeadlineExceeded"), [], [])
    assert late.what == "it took longer than its deadline of 7 s"
    assert late.where == "MPIJob conveyor-train-1 in the namespace ns"
    launcher = ended(137, reason="OOMKilled")
    launcher["metadata"]["labels"]["training.kubeflow.org/job-role"] = "launcher"
    oom = end_of_pod(launcher)
    assert oom is not None
    assert oom.error.todo == "give it more: kubernetes.resources.launcher.memory"
