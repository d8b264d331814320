"""Named points where a test can make the process fail: see tests of crash safety.

``KOSMOS_FAULT="repository.stored:kill"`` in the environment kills the process (SIGKILL:
no clean-up runs) when it reaches that point; ``raise`` raises ``InjectedFault``;
``delay`` waits a second. Several points are separated by commas. Without the variable
``reach`` is an empty function.
"""

from __future__ import annotations

import os
import signal
import time

# Long enough for another thread to overtake, short enough for a test.
DELAY_SECONDS = 1.0


class InjectedFault(Exception):
    """Raised at a fault point whose action is ``raise``."""


_PLAN = dict(part.split(":", 1) for part in os.environ.get("KOSMOS_FAULT", "").split(",") if part)


def _reach(name: str) -> None:
    match _PLAN.get(name):
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise InjectedFault(name)
        case "delay":
            time.sleep(DELAY_SECONDS)


def _pass(name: str) -> None:
    """No fault is planned."""


reach = _reach if _PLAN else _pass
