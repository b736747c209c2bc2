"""What the API server refuses, in words with a cure."""

import re

from components.common.errors import ConveyorError, InputError, StepError


class Answer(ConveyorError):
    """A refusal as it came: HTTP status, Kubernetes' reason, and its message."""

    def __init__(self, status: int, reason: str, message: str, verb: str, resource: str, name: str) -> None:
        super().__init__(
            f"the cluster refused to {verb} {resource} {name}".rstrip(), found=f"{status} {reason}: {message}"
        )
        self.status, self.reason, self.message = status, reason, message
        self.verb, self.resource, self.name = verb, resource, name


class Gone(Answer):
    """There is no such object."""


class Unseen(InputError):
    """A kind that the server does not know, or that this account has no right to."""


class Unreachable(StepError):
    """The API server gives no answer."""


def explain_answer(answer: Answer, namespace: str, user: str) -> ConveyorError:
    """The error to raise. What callers decide by (409, 404) stays an `Answer`."""
    if isinstance(answer, Gone) or answer.status == 409:
        return answer
    where = f"namespace {namespace}"
    message = answer.message
    if answer.status == 401:
        return InputError(
            "the cluster does not know these credentials",
            where=user or None,
            found=message,
            todo="log in anew, or choose another context (--context); kubectl auth whoami   must answer",
        )
    if answer.status == 404 and "namespaces" in message:
        return InputError(
            f"there is no namespace {namespace}",
            found=message,
            todo=f"kubectl create namespace {namespace}, install Conveyor in it, or choose another with --namespace",
        )
    if answer.status == 404:
        return Unseen(
            f"the cluster does not know the resource {answer.resource}",
            found=message,
            todo="an MPIJob needs the MPI operator; kubernetes.training.kind: indexed-job needs none"
            if answer.resource == "mpijobs"
            else None,
        )
    if answer.status == 403 and "exceeded quota" in message:
        return StepError(
            f"the namespace's quota is used up: {answer.resource} cannot be created",
            where=where,
            found=message,
            todo="end or delete what is not needed, or ask for a larger quota (kubectl describe resourcequota)",
        )
    if "admission webhook" in message or "denied the request" in message:
        return InputError(
            f"a policy of the cluster refuses the {answer.resource} that Conveyor makes",
            where=where,
            found=message,
            todo="the message names the policy; settings below kubernetes: (labels, resources, …) may satisfy it",
        )
    if answer.status == 403:
        return _forbidden(answer, namespace)
    if answer.status == 422:
        return InputError(
            f"the cluster refuses the {answer.resource} {answer.name} as it is written".replace("  ", " "),
            where=where,
            found=message,
            todo="a setting below kubernetes: has a value that Kubernetes does not allow",
        )
    return answer


def _forbidden(answer: Answer, namespace: str) -> ConveyorError:
    found = re.search(r'User "([^"]+)"', answer.message)
    who = found.group(1) if found else "this account"
    role = "conveyor-launcher" if who.startswith("system:serviceaccount:") else "conveyor-user"
    return Unseen(
        f"{who} may not {answer.verb} {answer.resource} in the namespace {namespace}",
        found=answer.message,
        todo=f"bind it to a Role that may (Conveyor's chart and manifests have one, {role}), or choose another "
        f"namespace; kubectl auth can-i {answer.verb} {answer.resource} -n {namespace}   must say yes",
    )


def unreachable(server: str, error: BaseException) -> Unreachable:
    """No answer at all."""
    return Unreachable(
        "the cluster cannot be reached",
        where=server,
        found=str(error).split(": ", 1)[-1],
        todo="check the context (kubectl config current-context), the network and the VPN: kubectl version   must answer",
    )
