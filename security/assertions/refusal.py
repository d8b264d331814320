"""Why an assertion is refused: as a WS-Security fault, without a word of what the token says."""

from __future__ import annotations

from soap.faults import SENDER, SoapFault


class TokenRefused(Exception):
    """An assertion that does not prove who is asking.

    ``subcode`` is the WS-Security fault code, in Clark notation (WSS SOAP Message Security 1.1,
    12), ``reason`` says what the sender must mend.
    """

    def __init__(self, subcode: str, reason: str) -> None:
        super().__init__(reason)
        self.subcode = subcode
        self.reason = reason

    def fault(self) -> SoapFault:
        """The fault that tells the sender."""
        return SoapFault(SENDER, self.reason, subcode=self.subcode)
