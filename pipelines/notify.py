"""Tell the webhook how a run ended. Whatever goes wrong with that is a warning, and never the run's."""

import os
import secrets
from typing import Any

from components.common.canonical import Json, canonical_json, digest_json
from components.common.failures import EXIT_INTERRUPTED, explain
from components.common.notify import Event, NotifyConfig
from components.common.progress import Reporter
from components.common.refs import PromotionRef
from components.common.store import Store
from pipelines.result import Run
from pipelines.webhook import Delivery, deliver, without_secrets

URL = "CONVEYOR_WEBHOOK_URL"
SECRET = "CONVEYOR_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable, not a secret
MAX_TEXT = 2000
NOTICES = "notices/"


def notify_end(config: NotifyConfig, run: Run, store: Store | None, reporter: Reporter) -> bool:
    """Tell about the run, where a webhook is set and wants to hear of it; True where it was told now.

    A decision (promoted, refused, awaiting approval) is told once, however often runs come to it again; a failure each
    time. Never raises, and takes no longer than `notify.deadline_s`. `store` None: the run failed before there was one.
    """
    url = os.environ.get(URL, "").strip()
    if not url:
        return False
    try:
        event = event_of(run)
        if event is None or event not in config.events:
            return False
        marker = _marker(run, event) if store is not None else None
        if store is not None and marker is not None and store.stat(marker) is not None:
            return False
        document = describe(run, event)
        body = canonical_json({"text": document["text"]} if config.format == "slack" else document)
        told = Delivery(
            url=url,
            body=body,
            event=event,
            identity=digest_json(marker).removeprefix("sha256:")[:32] if marker else secrets.token_hex(16),
            secret=os.environ.get(SECRET, ""),
        )
        deliver(told, timeout_s=config.timeout_s, deadline_s=config.deadline_s)
        if store is not None and marker is not None:
            store.put(marker, canonical_json({"version": 1, "event": event, "run": run.run_id}))
    except Exception as error:  # noqa: BLE001 - the run has ended as it has ended
        explained = explain(error)
        reporter.warning(
            f"the webhook was not told: {explained.what}", found=explained.found, todo=explained.todo
        )
        return False
    reporter.info(f"the webhook was told: {event}")
    return True


def event_of(run: Run) -> Event | None:
    """None for a run that there is nothing to tell of: interrupted, or ended before a model was to be promoted."""
    if run.error is not None:
        return None if run.error.exit_code == EXIT_INTERRUPTED else "failed"
    found = run.outcome_of(PromotionRef)
    if found is None:
        return None
    if found[0].promoted:
        return "promoted"
    return "awaiting_approval" if found[0].awaiting_approval else "refused"


def describe(run: Run, event: Event) -> dict[str, Json]:
    """The document: what the run's JSON result says, but for what is long."""
    result = run.to_json()
    found = run.outcome_of(PromotionRef)
    error = result.get("error")
    document: dict[str, Any] = {
        "version": 1,
        "event": event,
        "text": "",
        "run": run.run_id or None,
        "store": run.store_url,
        "state": result["state"],
        "seconds": result["seconds"],
        "registry": found[0].registry if found else None,
        "model": result["model"],
        "champion_before": found[0].champion_before if found else None,
        "promoted": result["promoted"],
        "awaiting_approval": result["awaiting_approval"],
        "reason": found[0].reason[:MAX_TEXT] if found else None,
        "gates": dict(found[0].gates) if found else None,
        "metrics": result["metrics"],
        "compressed": result["compressed"]["chosen"] if result["compressed"] else None,
        "ingest": result["ingest"],
        "report": result["report"],
        "error": {name: _short(value) for name, value in error.items()} if error else None,
    }
    document["text"] = _sentence(document, event)
    cleaned: dict[str, Json] = without_secrets(document)
    return cleaned


def _sentence(document: dict[str, Any], event: Event) -> str:
    """What a person reads in a chat."""
    model = f"{document['registry']} version {document['model']['version']}" if document["model"] else ""
    accuracy = document["compressed"]["accuracy"] if document["compressed"] else None
    figure = f" ({100 * accuracy:.2f} % on the test split)" if accuracy is not None else ""
    if event == "failed":
        error = document["error"]
        where = f" in {error['step']}" if error["step"] else ""
        run = f" run {document['run']}" if document["run"] else ""
        text = f"Conveyor{run} failed{where}: {error['what']}"
        return f"{text}. To do: {error['todo']}" if error["todo"] else text
    if event == "promoted":
        return f"Conveyor promoted {model}{figure}: {document['reason']}"
    if event == "awaiting_approval":
        number = document["model"]["version"]
        return f"Conveyor: {model}{figure} awaits approval: conveyor models promote {number}"
    return f"Conveyor refused {model}{figure}: {document['reason']}"


def _marker(run: Run, event: Event) -> str | None:
    """The object that says that this decision was told; None for a failure."""
    found = run.outcome_of(PromotionRef)
    return f"{NOTICES}{found[1].key}.{event}.json" if found is not None and event != "failed" else None


def _short(value: Any) -> Any:
    return value[:MAX_TEXT] if isinstance(value, str) else value
