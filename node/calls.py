"""What is told of the calls that have ended: counted and logged, some at a time.

One by one they took a sixth of the time of a stored query: code that runs once in a while is never
in the processor's caches. A process that is killed leaves the last of them untold; the audit trail,
which may not, is kept elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from node import metrics
from node.logs import tell_calls
from soap.operation import Exchange
from soap.service import Ended

# So many calls at a time as came in these seconds: nobody who reads figures or lines sees it.
PAUSE_SECONDS = 0.05


class Calls:
    """Tells of the calls of one endpoint (``soap.service.Observe``), in the thread of its loop."""

    def __init__(self, exchanges: Iterable[Exchange[Any, Any]]) -> None:
        self._count = metrics.observer(exchanges)
        self._ended: list[Ended] = []

    def __call__(self, call: Ended) -> None:
        """Tell of a call soon."""
        if not self._ended:
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self.tell)
        self._ended.append(call)

    def tell(self) -> None:
        """Tell of all now."""
        ended, self._ended = self._ended, []
        for call in ended:
            self._count(call)
        tell_calls(ended)
