"""What is told of the calls that have ended: counted and logged, some at a time.

One by one they took a sixth of the time of a stored query, and a quarter of that of a small one of
QIDO-RS: code that runs once in a while is never in the processor's caches. A process that is killed
leaves the last of them untold; the audit trail, which may not, is kept elsewhere.
"""

from __future__ import annotations

import asyncio

from node.logs import tell_calls
from soap.service import Ended, Observe

# So many calls at a time as came in these seconds: nobody who reads figures or lines sees it.
PAUSE_SECONDS = 0.05


class Calls:
    """Tells of calls (``soap.service.Observe``), in the thread of their loop.

    ``count`` counts one of them.
    """

    def __init__(self, count: Observe) -> None:
        self._count = count
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
