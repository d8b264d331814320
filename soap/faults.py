"""Everything that can go wrong with a message, and what the wire says of it.

    MessageError            what arrived is not a message we can act on (xml.XMLRefused is one)
    SoapFault               a SOAP 1.2 fault: raised to send one, or received from a peer
    InvalidBody             a recognised body that does not follow its schema
    PeerError               a call to another node did not bring an answer
        PeerUnreachable         no connection: the request was certainly not handled
        PeerTimeout             no answer in time: the outcome is unknown
        PeerProtocolError       no intelligible answer: the outcome is unknown
        PeerFault               it answered with a SOAP fault; also a SoapFault

SOAP 1.2 Part 1, 5.4 (codes), Part 2, 7.5.2.2 (HTTP status); WS-Addressing 1.0 SOAP
Binding, 6 (addressing faults). Errors inside a recognised body are no faults: they travel
in a RegistryErrorList with HTTP 200 (ITI TF-3 4.2.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

SOAP12: Final = "http://www.w3.org/2003/05/soap-envelope"
WSA: Final = "http://www.w3.org/2005/08/addressing"

SENDER: Final = "Sender"
RECEIVER: Final = "Receiver"
VERSION_MISMATCH: Final = "VersionMismatch"
MUST_UNDERSTAND: Final = "MustUnderstand"

# WS-Addressing subcodes, in Clark notation.
ACTION_NOT_SUPPORTED: Final = f"{{{WSA}}}ActionNotSupported"
HEADER_REQUIRED: Final = f"{{{WSA}}}MessageAddressingHeaderRequired"
INVALID_HEADER: Final = f"{{{WSA}}}InvalidAddressingHeader"
ONLY_ANONYMOUS: Final = f"{{{WSA}}}OnlyAnonymousAddressSupported"

# WS-Security: what judges a caller says why it refuses (WSS SOAP Message Security 1.1, 12).
WSSE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
INVALID_SECURITY: Final = f"{{{WSSE}}}InvalidSecurity"
INVALID_TOKEN: Final = f"{{{WSSE}}}InvalidSecurityToken"
FAILED_AUTHENTICATION: Final = f"{{{WSSE}}}FailedAuthentication"
FAILED_CHECK: Final = f"{{{WSSE}}}FailedCheck"
MESSAGE_EXPIRED: Final = f"{{{WSSE}}}MessageExpired"

BUSY: Final = 503
_STATUS = {SENDER: 400}  # SOAP 1.2 Part 2, table 20: every other code travels with 500


class MessageError(Exception):
    """What arrived is not a message: broken MIME, wrong lengths, forbidden XML."""


class InvalidBody(Exception):
    """A recognised body that does not follow its schema; the text says where and why."""


class SoapFault(Exception):
    """A SOAP 1.2 fault.

    ``code`` is the local name of the SOAP code, ``subcode`` a QName in Clark notation,
    ``status`` the HTTP status it travels with; ``not_understood`` the QNames of the header
    blocks that a MustUnderstand fault is about; ``relates_to`` the faulty request's MessageID
    where it is known; ``detail`` what the standard of the operation says of it, as XML elements;
    ``action`` the WS-Addressing action that this standard gives it.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        *,
        subcode: str | None = None,
        status: int | None = None,
        not_understood: Iterable[str] = (),
        relates_to: str | None = None,
        detail: bytes = b"",
        action: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.subcode = subcode
        self.status = status or _STATUS.get(code, 500)
        self.not_understood = tuple(not_understood)
        self.relates_to = relates_to
        self.detail = detail
        self._action = action

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"

    @property
    def action(self) -> str:
        """The WS-Addressing action of the message that carries the fault."""
        if self._action is not None:
            return self._action
        about_addressing = (self.subcode or "").startswith(f"{{{WSA}}}")
        return f"{WSA}/fault" if about_addressing else f"{WSA}/soap/fault"

    @classmethod
    def busy(cls) -> SoapFault:
        """The fault of a node that has more work than it can bound; travels with HTTP 503."""
        return cls(RECEIVER, "The node is busy; please send the request again", status=BUSY)


class PeerError(Exception):
    """A call to another node did not bring an answer."""


class PeerUnreachable(PeerError):
    """No connection came about: the request was certainly not handled."""


class PeerTimeout(PeerError):
    """The peer did not answer in time: it may or may not have handled the request."""


class PeerProtocolError(PeerError):
    """The peer's answer cannot be understood, or broke off: the outcome is unknown."""


class PeerFault(SoapFault, PeerError):
    """The SOAP fault a peer answered with: never passed on to whoever called us."""
