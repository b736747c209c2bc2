"""Pod 0, or the launcher of an MPIJob: gathers the pods, begins a generation, ends it when one of them dies."""

import json
import queue
import time
from contextlib import AbstractContextManager, nullcontext, suppress

from components.common.errors import ConveyorError, InputError, StepError, StoreError
from components.common.refs import ModelRef
from components.common.step import StepContext
from components.train.checkpoint import newest_step, newest_valid
from components.train.job import Job
from components.train.monitor import Monitor
from components.train.pods.coordinator import JOINED, Coordinator, Event, Member
from components.train.pods.environment import Pods
from components.train.pods.errors import GenerationOverError, for_good
from components.train.pods.generations import begin_generation, end_generation, forget_generations
from components.train.rendezvous import Host, ddp_environments, horovod_rendezvous

POLL_S = 0.5
TELL_S = 10.0
GROWTH_POLL_S = 5.0
FAREWELL_S = 5.0
WAKE_S = 2.0
"""A worker may fail in the wake of a pod's death, and say so before the pod is missed."""

Environments = list[list[dict[str, str]]]


class Lead:
    """The training as the coordinator sees it."""

    def __init__(
        self,
        job: Job,
        context: StepContext,
        monitor: Monitor,
        pods: Pods,
        coordinator: Coordinator,
        *,
        max_restarts: int,
    ) -> None:
        self.job, self.context, self.monitor, self.pods = job, context, monitor, pods
        self.coordinator = coordinator
        # A drain takes one pod after the other: each may die so often before the next checkpoint.
        self.max_restarts = max_restarts * pods.count
        self.workers_a_pod = job.resolved.placement.world_size // pods.count
        self.joined: dict[int, Member] = {}
        """Who is there for the next generation."""
        self.gone: set[Member] = set()
        """Those of this generation who hung up."""

    def run(self) -> ModelRef:
        """Lead until the training is done.

        Raises `GenerationOverError` when a pod died and its Job is to start all of them anew. Where only a worker
        died, training is elastic, or this is an MPIJob's launcher, the next generation begins here instead.
        """
        try:
            while True:
                self._gather()
                model = self._generation()
                if model is not None:
                    with suppress(StoreError):
                        forget_generations(self.context.store, self.job.key)
                    return model
        except ConveyorError as error:
            if not isinstance(error, GenerationOverError):
                self._say_goodbye(list(self.joined.values()), "failed", why=error.what)
            raise

    def _gather(self) -> None:
        """Wait until all are there, or enough of them where training is elastic."""
        pods, reporter = self.pods, self.context.reporter
        started = told = changed = time.monotonic()
        while len(self.joined) < pods.count:
            now = time.monotonic()
            missing = [index for index in range(pods.count) if index not in self.joined]
            text = f"waiting for pod{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
            if len(self.joined) >= pods.fewest and now - changed >= pods.settle_s:
                reporter.info(f"going on without pod {', '.join(map(str, missing))}")
                return
            if now - started >= pods.start_timeout_s:
                raise StepError(
                    f"{len(missing)} of {pods.count} training pods did not come",
                    found=f"pod {', '.join(map(str, missing))} missing after {pods.start_timeout_s:.0f} s",
                    todo="see why they do not start (kubectl describe pod), and whether a network policy keeps "
                    f"the job's pods from port {self.coordinator.port} of this one",
                )
            if now - told >= TELL_S:
                told = now
                reporter.info(text, joined=len(self.joined), of=pods.count, seconds=round(now - started))
                for member in self.joined.values():
                    member.connection.send("waiting", text=text)
            event = self._next_event()
            if event is not None and self._note(event):
                changed = time.monotonic()

    def _next_event(self) -> Event | None:
        with suppress(queue.Empty):
            return self.coordinator.events.get(timeout=POLL_S)
        return None

    def _note(self, event: Event) -> bool:
        """Keep `joined` true; whether that changed it."""
        member = event.member
        before = self.joined.get(member.index)
        if event.message is None:
            if before is not member:
                return False
            del self.joined[member.index]
            self.context.reporter.info(f"pod {member.index} left")
            return True
        if event.message["kind"] != JOINED:
            return False
        if before is not None:
            before.connection.close()  # it was started anew, so the one before it is dead
        self.joined[member.index] = member
        member.connection.send("accepted")
        return True

    def _generation(self) -> ModelRef | None:
        """One generation of those who are there; None when it is over and the next one is to begin here."""
        job, context = self.job, self.context
        found = newest_valid(context.store, context.blobs, job.key, context.reporter.warning)
        step = found.step if found else -1
        generation = begin_generation(context.store, job.key, step=step, max_restarts=self.max_restarts)
        members = [self.joined[index] for index in sorted(self.joined)]
        self.joined = {}
        self.gone.clear()
        with self._rendezvous(members) as environments:
            for number, member in enumerate(members):
                member.connection.send(
                    "begin",
                    generation=generation.name,
                    resume=found.tree if found else None,
                    environments=environments[number],
                    first_rank=number * self.workers_a_pod,
                    world_size=len(members) * self.workers_a_pod,
                )
            context.reporter.info(
                f"generation {generation.name} of the training begins",
                pods=[member.index for member in members],
                step=max(step, 0),
            )
            try:
                why = self._watch(members, step)
            finally:
                self.monitor.end_try()
            if why is None:
                done = self.monitor.done or {}
                self._say_goodbye(members, "done", done=done, resumed_from=self.monitor.resumed_from)
                return ModelRef.model_validate_json(json.dumps(done["output"]))
        self._over(generation.name, members, why)
        return None

    def _over(self, name: str, members: list[Member], why: str) -> None:
        error = next(iter(self.monitor.errors), None)
        if error is not None and not isinstance(error, StoreError):
            self._say_goodbye(members, "failed", why=error.what)
            raise error if isinstance(error, InputError) else for_good(error)
        self.monitor.errors.clear()
        again = self.pods.elastic or bool(self.pods.hosts) or self._all_there(members)
        self.context.reporter.warning(f"generation {name} of the training is over: {why}")
        self._say_goodbye(members, "over", why=why, again=again)
        # Only now: a store that takes its time must not keep the others waiting.
        with suppress(StoreError):
            end_generation(self.context.store, self.job.key, why)
        if not again:
            raise GenerationOverError(
                f"generation {name} of the training is over",
                found=why,
                todo="nothing: the job starts its pods anew, and they go on from the newest checkpoint",
            )

    def _rendezvous(self, members: list[Member]) -> AbstractContextManager[Environments]:
        hosts = [Host(f"pod-{member.index}", self.workers_a_pod) for member in members]
        if self.job.resolved.placement.engine == "horovod":
            guests = {address for m in members for address in (m.address, m.connection.peer_address)}
            return horovod_rendezvous(hosts, self.coordinator.address, guests)
        return nullcontext(ddp_environments(hosts, f"tcp://{members[0].address}:{members[0].port}"))

    def _watch(self, members: list[Member], step: int) -> str | None:
        """Listen until the result is there (None), or something ends the generation: why it did."""
        began = polled = time.monotonic()
        while True:
            event = self._next_event()
            now = time.monotonic()
            if self.joined and now - polled >= GROWTH_POLL_S:
                polled = now
                if now - began >= self.pods.grow_after_s and self._newest_step() > step:
                    return f"pod {', '.join(map(str, sorted(self.joined)))} joins"
            if event is None:
                continue
            if event.member not in members:
                self._note(event)
                if replaced := [member for member in members if member.index == event.member.index]:
                    self.gone.update(replaced)
                    return f"pod {event.member.index} was started anew"
                continue
            why = self._heard(event)
            if self.monitor.done is not None:
                return None
            if why is not None:
                return why

    def _heard(self, event: Event) -> str | None:
        """Why the generation is over, if it is now."""
        message, index = event.message, event.member.index
        if message is None:
            self.gone.add(event.member)
            return f"pod {index} is gone, or says nothing any more"
        if message["kind"] == "message":
            fields = dict(message["fields"])
            self.monitor(fields.pop("kind"), **fields)
            return self.monitor.errors[0].what if self.monitor.errors else None
        if message["kind"] == "died":
            self.context.reporter.warning(f"the last words in pod {index}:\n    {message.get('tail')}")
            return f"{message.get('how')} (pod {index})"
        return None

    def _all_there(self, members: list[Member]) -> bool:
        """Whether only processes died, and no pod."""
        until = time.monotonic() + WAKE_S
        while not self.gone and time.monotonic() < until:
            event = self._next_event()
            if event is None:
                continue
            if event.member not in members:
                self._note(event)
                self.gone.update(member for member in members if member.index == event.member.index)
            elif event.message is None:
                self.gone.add(event.member)
        return not self.gone

    def _newest_step(self) -> int:
        with suppress(StoreError):
            return newest_step(self.context.store, self.job.key)
        return -1

    def _say_goodbye(self, members: list[Member], kind: str, **fields: object) -> None:
        """Tell them, and wait until they have hung up: closing first could cut the last word off."""
        left = set(members) - self.gone
        for member in members:
            member.connection.send(kind, **fields)
        until = time.monotonic() + FAREWELL_S
        while left and time.monotonic() < until:
            event = self._next_event()
            if event is None:
                continue
            if event.member not in members:
                self._note(event)
            elif event.message is None:
                left.discard(event.member)
