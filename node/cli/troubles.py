"""Errors of the rooms, told to a person: one line and an exit code for each kind."""

from __future__ import annotations

from consumer.errors import ConsumerError, Faulted, NoAnswer, Refused
from hl7.client import MllpError
from node.authority import PkiError
from node.backup import BackupError
from node.cli.exits import Exit
from node.config_file import ConfigError
from node.init import NodeExists
from node.preflight import CannotListen
from node.texts import tr
from security.tls import TlsError
from soap.faults import PeerError, SoapFault
from storage.errors import StorageError


def trouble(error: Exception) -> tuple[str, Exit] | None:
    """What to say of ``error`` and how to leave; None when it is none we know."""
    match error:
        case ConfigError():
            return str(error), Exit.CONFIGURATION
        case TlsError():
            return str(error), Exit.CONFIGURATION
        case CannotListen() | NodeExists() | PkiError() | BackupError() | StorageError():
            return str(error), Exit.FAILED
        case MllpError():
            return tr("no answer from the HL7 receiver: {error}", error=error), Exit.UNREACHABLE
        case Faulted() | SoapFault():
            return str(error), Exit.FAILED
        case NoAnswer() | PeerError():
            return str(error), Exit.UNREACHABLE
        case Refused():
            lines = [f"{one.code}: {one.context}" for one in error.errors]
            return "\n".join([str(error), *lines]), Exit.FAILED
        case ConsumerError():
            return str(error), Exit.FAILED
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return where + (error.strerror or type(error).__name__), Exit.FAILED
        case _:
            return None
