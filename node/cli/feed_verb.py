"""The verb of who announces patients: feed, by HL7 v2 over MLLP or HL7 v3 over SOAP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json, address
from node.operator import operator_name
from node.texts import tr

if TYPE_CHECKING:
    from node.config import Settings
    from node.feed import Person

Acknowledged = dict[str, str]


def feed(
    files: Annotated[
        list[Path] | None,
        typer.Argument(exists=True, dir_okay=False, help=tr("HL7 messages, one a file.")),
    ] = None,
    patient: Annotated[
        str | None, typer.Option(metavar="ID", help=tr("Announce this patient (A04)."))
    ] = None,
    merge: Annotated[
        str | None, typer.Option(metavar="ID", help=tr("Merge this identifier into it (A40)."))
    ] = None,
    name: Annotated[str, typer.Option(metavar="FAMILY^GIVEN", help=tr("Name."))] = "",
    birth_date: Annotated[str, typer.Option(metavar="YYYYMMDD", help=tr("Date of birth."))] = "",
    sex: Annotated[str, typer.Option(metavar="F|M|O|U", help=tr("Administrative sex."))] = "",
    mllp: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help=tr("Send here instead of to this node."))
    ] = None,
    v3: Annotated[
        bool, typer.Option("--v3", help=tr("Speak HL7 v3 over SOAP (ITI-44) instead."))
    ] = False,
    registry: Annotated[
        str | None,
        typer.Option(metavar="URL", help=tr("With --v3, send here instead of to this node.")),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Send identity messages over MLLP (ITI-8) or SOAP (ITI-44)."""
    from node.config_file import load
    from node.feed import Person

    if patient is not None and not name:
        raise UsageError(tr("--patient needs --name: HL7 requires one (PID-5)"))
    if patient is None and not files:
        raise UsageError(tr("nothing to send: name files, or a --patient"))
    settings = load(config)
    person = None if patient is None else Person(patient, name, birth_date, sex)
    if v3:
        answers = _feed_v3(files or [], person, merge, settings, registry)
    else:
        answers = _feed_v2(files or [], person, merge, settings, mllp)
    _show_acknowledged(list(answers), json)


def _feed_v2(
    files: list[Path],
    person: Person | None,
    merge: str | None,
    settings: Settings,
    mllp: str | None,
) -> Iterator[Acknowledged]:
    from hl7.client import MllpClient
    from node import feed as messages
    from node.endpoints import Endpoints
    from node.wiring.commands import commanding

    authority = settings.affinity_domain.assigning_authority
    batch = [(str(file), _message(file)) for file in files]
    if person is not None:
        made = messages.merge(person, merge, authority) if merge else None
        batch.append((person.identifier, made or messages.announce(person, authority)))
    place = mllp or Endpoints.of(settings).mllp
    if place is None:
        raise UsageError(tr("this node has no identity feed; name one with --mllp"))
    with commanding(settings, operator_name()) as commanded, MllpClient(*address(place)) as client:
        send = commanded.feeding(place, client.send) if commanded else client.send
        for name, message in batch:
            code, text = messages.acknowledgement(send(message))
            yield {"message": name, "ack": code, "text": text}


def _feed_v3(
    files: list[Path],
    person: Person | None,
    merge: str | None,
    settings: Settings,
    registry: str | None,
) -> Iterator[Acknowledged]:
    from hl7.v3.request import IdentityRequest
    from node.endpoints import Endpoints
    from node.feed import request_v3
    from node.wiring.commands import calling
    from soap.xml import parse
    from transactions.iti_44 import ITI_44

    authority = settings.affinity_domain.assigning_authority
    batch = [(str(file), IdentityRequest(parse(file.read_bytes()))) for file in files]
    if person is not None:
        made = request_v3(person, merge, authority, settings.node.home_community_id)
        batch.append((person.identifier, made))
    for name, request in batch:
        if request.interaction not in ITI_44:
            raise UsageError(tr("{file} is no message of ITI-44", file=name))
    url = registry or Endpoints.of(settings).registry
    if url is None:
        raise UsageError(tr("this node has no registry; name one with --registry"))
    with calling(settings, operator_name()) as client:
        for name, request in batch:
            response = client.call(url, ITI_44[request.interaction], request)
            text = "; ".join(problem.detail for problem in response.problems)
            yield {"message": name, "ack": response.status, "text": text}


def _show_acknowledged(answers: list[Acknowledged], json: bool) -> None:
    if json:
        output.show_json(answers)
    else:
        rows = [(row["message"], row["ack"], row["text"]) for row in answers]
        output.console().print(output.table([tr("message"), "ACK", tr("text")], rows))
    if any(row["ack"] not in ("AA", "CA") for row in answers):
        raise CommandError(tr("not every message was accepted"))


def _message(file: Path) -> bytes:
    """A message as HL7 wants it: files of people end their lines with LF."""
    return file.read_bytes().strip().replace(b"\r\n", b"\r").replace(b"\n", b"\r") + b"\r"
