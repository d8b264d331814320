"""Named points where a test can make the product fail: killed, refused by the disk, or slow.

Off unless ``KOSMOS_FAULT`` is set in the environment; then ``reach`` is an empty function. Its
value is a plan for one process::

    repository.stored:kill                  every passage (there will be one)
    repository.stored:raise@3               the third passage alone
    repository.stored:raise%0.1             each passage with this probability
    repository.kept:delay,audit.before_record:kill@2

or ``@`` and a folder of fuses, for processes that run already: ``set_fuse`` puts one there, the
first passage in any process burns it down, once, and ``burnt`` tells.

``kill`` is SIGKILL: no clean-up runs. ``raise`` is ``InjectedFault``, the OSError of a disk that
failed (EIO). ``delay`` waits DELAY_SECONDS. A probability draws from ``KOSMOS_FAULT_SEED``.

Every point is in ``POINTS``, and a plan that names another one is refused.
"""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

# Long enough for another thread to overtake, short enough for a test.
DELAY_SECONDS = 0.2

# The raise last: who meets a failing disk may rest for a while.
ACTIONS = ("delay", "kill", "raise")

POINTS = {
    "audit.before_commit": "records are about to be committed to the trail of a process",
    "audit.before_record": "a call was performed, and is about to be recorded",
    "blobs.kept": "bytes lie under their address, whose folder is not synced yet",
    "broker.before_commit": "a subscription, or who is to be told of a publication (DSUB)",
    "bulk.before_commit": "a batch of a bulk load",
    "handover.indexed": "the index has instances of another process, which is not told yet",
    "imaging.corrected": "a correction of a patient is applied, and still in the inbox",
    "imaging.described": "the descriptions of images are committed",
    "imaging.evicted": "instances are marked as evicted, their files are still there",
    "imaging.kept": "an instance's file is durable, its index row is not written",
    "imaging.stored": "an instance's index row is committed, its answer has not left",
    "imaging.told": "what a peer told (MPPS, IAN) is noted, and neither recorded nor answered",
    "keys.rewrapped": "a data key is wrapped by the new key, and still by the old one",
    "keys.sealing": "a blob lies sealed, and as it was",
    "notifier.after_send": "a subscriber took a notification, which is still in the outbox",
    "notifier.before_send": "a notification is about to be delivered",
    "patients.before_commit": "an identity message: feed, merge, link change",
    "patients.committed": "the effect of an identity message is durable, its answer has not left",
    "publisher.after_send": "a repository answered a publication, which is still in the outbox",
    "publisher.before_send": "a publication is about to be sent",
    "registry.before_commit": "a submission (ITI-42)",
    "registry.committed": "a submission is registered, its answer has not left",
    "remove.before_commit": "a removal of metadata (ITI-62)",
    "reporting.made": "a report's publication is made, and not queued yet",
    "reporting.read": "a report was read out of an instance, and is not known yet",
    "reports.kept": "the document of a report message is durable, its row is not written",
    "reports.taken": "a report is durable, its answer has not left",
    "repository.assembled": "the bytes of an on-demand document are durable, its row is not",
    "repository.kept": "the bytes of a submission are durable, its rows are not",
    "repository.registered": "the registry answered, and the outcome is not noted",
    "repository.removed": "a document is served no more, its bytes are still there (ITI-86)",
    "repository.retrieved": "documents are found and proved, none has left (ITI-43)",
    "repository.snapshot_registered": "a snapshot is registered, and that is not noted",
    "repository.stored": "a submission is durable in the repository, the registry not asked",
    "storage.erased": "the key of a sealed file is destroyed, the file is still there",
    "update.before_commit": "an update of metadata (ITI-57, ITI-92)",
}
"""Every point by name, and where the work stands when it is reached."""

_BURNT = ".burnt"


class InjectedFault(OSError):
    """Raised at a fault point whose action is ``raise``."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.EIO, "Input/output error", name)


class UnknownPlan(ValueError):
    """A plan names no point, no action, or when it acts is not understood."""


class Plan:
    """What happens at which point of this process."""

    def __init__(self, text: str, seed: str = "") -> None:
        """Read a plan; raises UnknownPlan."""
        self._acts = dict(map(_entry, filter(None, text.split(","))))
        self._passed: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def action(self, name: str) -> str:
        """What happens at this passage of ``name``; empty for nothing."""
        if name not in self._acts:
            return ""
        action, passage, share = self._acts[name]
        with self._lock:
            self._passed[name] += 1
            due = passage in (0, self._passed[name]) and self._random.random() < share
        return action if due else ""


class Fuses:
    """A folder of fuses: each burns down once, whichever process comes by."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def action(self, name: str) -> str:
        """What happens at this passage of ``name``; empty for nothing."""
        burnt = self._folder / f"{name}{_BURNT}"
        try:
            os.rename(self._folder / name, burnt)
        except FileNotFoundError:
            return ""
        return burnt.read_text()


def set_fuse(folder: Path, name: str, action: str) -> None:
    """Let ``action`` happen at the next passage of ``name``; raises UnknownPlan."""
    _entry(f"{name}:{action}")
    (folder / f"{name}{_BURNT}").unlink(missing_ok=True)
    being_written = folder / "new"
    being_written.write_text(action)
    being_written.rename(folder / name)


def burnt(folder: Path, name: str) -> bool:
    """Whether the last fuse at ``name`` has burnt down."""
    return (folder / f"{name}{_BURNT}").exists()


def _entry(part: str) -> tuple[str, tuple[str, int, float]]:
    """One part of a plan: a point, its action, the passage (0: each), the probability."""
    found = re.fullmatch(r"([a-z_.]+):([a-z]+)(?:@([1-9]\d*)|%(0?\.\d+|1))?", part)
    if found is None or found[1] not in POINTS or found[2] not in ACTIONS:
        raise UnknownPlan(f"{part}: write point:action, action one of {', '.join(ACTIONS)}")
    return found[1], (found[2], int(found[3] or 0), float(found[4] or 1))


def _act(name: str, action: str) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise InjectedFault(name)
        case "delay":
            time.sleep(DELAY_SECONDS)


def _planned(text: str) -> Callable[[str], None]:
    folder = text.removeprefix("@")
    plan = Plan(text, os.environ.get("KOSMOS_FAULT_SEED", "")) if folder == text else None
    action = plan.action if plan else Fuses(Path(folder)).action
    return lambda name: _act(name, action(name))


def _pass(name: str) -> None:
    """No fault is planned."""


reach = _planned(os.environ["KOSMOS_FAULT"]) if os.environ.get("KOSMOS_FAULT") else _pass
