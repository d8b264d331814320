"""Verbs of the person who uses a network: publish, find, fetch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import output
from node.cli.exits import CommandError, Unreachable, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json, address, patient_id
from node.operator import operator_name
from node.texts import tr

if TYPE_CHECKING:
    from consumer.client import Consumer
    from consumer.ways import WayName
    from imaging_source.requestor import Peer
    from metadata.model import Code, DocumentEntry
    from node.config import Settings
    from node.storescu import DicomFile, Stored
    from transactions.registry_response import RegistryResponse

Patient = Annotated[
    str, typer.Argument(help=tr("Patient identifier: ID, or ID^^^&OID&ISO of another domain."))
]


def publish(
    paths: Annotated[
        list[Path], typer.Argument(exists=True, help=tr("DICOM files or folders, or one document."))
    ],
    dicom: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help=tr("Send images here instead of to this node.")),
    ] = None,
    ae_title: Annotated[
        str | None, typer.Option(metavar="AE", help=tr("Application entity title to call."))
    ] = None,
    repository: Annotated[
        str | None,
        typer.Option(metavar="URL", help=tr("Submit the document here instead of to this node.")),
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help=tr("Patient of the document: submits it by ITI-41."))
    ] = None,
    title: Annotated[str | None, typer.Option(help=tr("Title of the document."))] = None,
    class_code: Annotated[str, typer.Option(metavar="CODE", help="classCode")] = "10",
    type_code: Annotated[str, typer.Option(metavar="CODE", help="typeCode")] = "18748-4",
    format_code: Annotated[
        str, typer.Option(metavar="CODE", help="formatCode")
    ] = "urn:ihe:iti:xds:2017:mimeTypeSufficient",
    mime_type: Annotated[str | None, typer.Option(metavar="TYPE", help="mimeType")] = None,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Send images by C-STORE, or with ``--patient`` one document by ITI-41."""
    if patient is None:
        _send_images(paths, dicom, ae_title, config, json)
        return
    if len(paths) != 1 or not paths[0].is_file():
        raise UsageError(tr("--patient takes exactly one file"))
    from node.config_file import load
    from node.documents import Description, UnknownCode, WrongType, provide
    from node.endpoints import Endpoints
    from node.wiring.commands import calling
    from node.wiring.common import affinity_domain
    from transactions.iti_41 import ITI_41

    settings = load(config)
    description = Description(
        patient_id=patient_id(patient, settings),
        title=title or paths[0].stem,
        class_code=class_code,
        type_code=type_code,
        format_code=format_code,
        mime_type=mime_type,
    )
    try:
        unique_id, request = provide(paths[0], description, settings, affinity_domain(settings))
    except (UnknownCode, WrongType) as error:
        raise UsageError(str(error)) from None
    url = repository or Endpoints.of(settings).repository
    if url is None:
        raise UsageError(tr("this node has no repository; name one with --repository"))
    with calling(settings, operator_name()) as client:
        response = client.call(url, ITI_41, request)
    _show_registered(unique_id, response, json)


def find(
    patient: Patient,
    status: Annotated[
        str, typer.Option(metavar="approved|deprecated|all", help=tr("Status of the documents."))
    ] = "approved",
    study: Annotated[
        str | None, typer.Option(metavar="UID", help=tr("Only manifests of this study."))
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="YYYYMMDD", help=tr("Service not before."))
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="YYYYMMDD", help=tr("Service before."))
    ] = None,
    registry: Annotated[
        str | None, typer.Option(metavar="URL", help=tr("Ask here instead of this node."))
    ] = None,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Find a patient's documents (ITI-18)."""
    with _consumer(config) as (consumer, settings):
        consumer = replace(consumer, registry_url=registry) if registry else consumer
        entries = _find(consumer, patient_id(patient, settings), status, study, since, until)
    if json:
        output.show_json([_told(entry) for entry in entries])
        return
    if not entries:
        output.console().print(tr("no documents"))
        return
    headings = [tr("title"), tr("type"), tr("format"), tr("service"), tr("size"), tr("status")]
    output.console().print(output.table([*headings, "uniqueId"], map(_row, entries)))


def fetch(
    patient: Patient,
    folder: Annotated[Path, typer.Option(help=tr("Where files go."))] = Path("."),
    document: Annotated[
        list[str] | None,
        typer.Option(metavar="UNIQUE_ID", help=tr("Only this document; may be repeated.")),
    ] = None,
    study: Annotated[
        str | None, typer.Option(metavar="UID", help=tr("Only manifests of this study."))
    ] = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help=tr("Fetch the images of manifests too."))
    ] = True,
    way: Annotated[
        list[str] | None,
        typer.Option(
            metavar="rad69|wado|cget|cmove",
            help=tr("Fetch images only so; repeated, in this order."),
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help=tr("Keep the images that are there."))
    ] = True,
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Fetch a patient's documents (ITI-43) and the images of their manifests (RAD-69, WADO-RS)."""
    from node.fetch import Fetched, fetch_all

    with _consumer(config) as (consumer, settings):
        consumer = replace(consumer, ways=_ways(way)) if way else consumer
        entries = _find(consumer, patient_id(patient, settings), "approved", study, None, None)
        wanted = [entry for entry in entries if not document or entry.unique_id in document]
        if not wanted:
            raise CommandError(tr("no such document"))
        with output.transfer(tr("images")) as progress:
            fetched: Fetched = fetch_all(
                consumer, wanted, folder, images=images, resume=resume, progress=progress
            )
    if json:
        output.show_json(asdict(fetched))
    else:
        told = tr(
            "documents: {documents}, images: {images}, {size} in {folder}",
            documents=len(fetched.documents),
            images=fetched.images,
            size=output.bytes_text(fetched.bytes),
            folder=folder,
        )
        output.console().print(told)
        if fetched.missing:
            headings = [tr("study"), tr("series"), tr("image"), tr("why")]
            rows = [(one.study, one.series, one.instance, one.reason) for one in fetched.missing]
            output.console().print(output.table(headings, rows))
    if fetched.problems:
        raise CommandError("\n".join(fetched.problems))


def _ways(names: list[str]) -> tuple[WayName, ...]:
    from consumer.ways import WayName

    try:
        return tuple(map(WayName, names))
    except ValueError:
        raise UsageError(tr("--way is rad69, wado, cget or cmove")) from None


def _send_images(
    paths: list[Path], dicom: str | None, ae_title: str | None, config: Path, json: bool
) -> None:
    from node.config_file import load
    from node.storescu import AssociationFailed, find_files, send

    files = list(find_files(paths))
    if not files:
        raise UsageError(tr("no DICOM file in {paths}", paths=", ".join(map(str, paths))))
    # Somewhere else than to a node, images may be sent without a configuration, and a record.
    settings = load(config) if dicom is None or config.exists() else None
    provider = _provider(dicom, ae_title, settings)
    try:
        with (
            _storing(files, provider, settings) as answers,
            output.progress("C-STORE", len(files)) as step,
        ):

            def stored(answer: Stored) -> None:
                answers.append(answer)
                step()

            send(files, provider, on_stored=stored)
    except AssociationFailed as error:
        raise (Unreachable if error.unreachable else CommandError)(str(error)) from None
    _show_stored(answers, json)


@contextmanager
def _storing(
    files: list[DicomFile], provider: Peer, settings: Settings | None
) -> Iterator[list[Stored]]:
    """A list of answers, of which there is a record where there is a node to keep it."""
    from node.storescu import CALLING_TITLE
    from node.wiring.commands import commanding

    with ExitStack() as stack:
        commanded = stack.enter_context(commanding(settings, operator_name())) if settings else None
        if commanded is None:
            yield []
        else:
            yield stack.enter_context(commanded.storing(files, provider, CALLING_TITLE))


def _provider(dicom: str | None, ae_title: str | None, settings: Settings | None) -> Peer:
    """The storage provider named on the command line, or that of the node."""
    from imaging_source.requestor import Peer

    if dicom is not None:
        return Peer(ae_title or "KOSMOS", *address(dicom))
    assert settings is not None  # else a place is named
    from node.endpoints import Endpoints
    from node.wiring.common import client_tls

    places = Endpoints.of(settings)
    if places.dicom is None or places.ae_title is None:
        raise UsageError(tr("this node takes no images; name a place with --dicom"))
    tls = client_tls(settings) if settings.dicom_over_tls else None
    return Peer(ae_title or places.ae_title, *address(places.dicom), tls)


def _show_stored(answers: list[Stored], json: bool) -> None:
    def told(file: DicomFile, status: int | None) -> dict[str, Any]:
        shown = None if status is None else f"0x{status:04X}"
        return {"file": str(file.path), "sopInstanceUid": file.sop_instance_uid, "status": shown}

    if json:
        output.show_json([told(answer.file, answer.status) for answer in answers])
    else:
        size = output.bytes_text(sum(answer.file.size for answer in answers if answer.ok))
        stored = sum(answer.ok for answer in answers)
        output.console().print(tr("images stored: {stored}, {size}", stored=stored, size=size))
    refused = [answer for answer in answers if not answer.ok]
    if refused:
        names = ", ".join(answer.file.path.name for answer in refused)
        raise CommandError(tr("not stored: {names}", names=names))


def _show_registered(unique_id: str, response: RegistryResponse, json: bool) -> None:
    from metadata.identifiers import SUCCESS

    if json:
        errors = [asdict(error) for error in response.errors]
        output.show_json({"uniqueId": unique_id, "status": response.status, "errors": errors})
    elif response.status == SUCCESS:
        output.console().print(tr("registered: {unique_id}", unique_id=unique_id))
    if response.status != SUCCESS:
        lines = [f"{error.code}: {error.context}" for error in response.errors]
        raise CommandError("\n".join([tr("refused"), *lines]))


@contextmanager
def _consumer(config: Path) -> Iterator[tuple[Consumer, Settings]]:
    from node.config_file import load
    from node.wiring.commands import consuming

    settings = load(config)
    with consuming(settings, operator_name()) as consumer:
        yield consumer, settings


def _find(
    consumer: Consumer,
    patient: str,
    status: str,
    study: str | None,
    since: str | None,
    until: str | None,
) -> list[DocumentEntry]:
    from metadata.datatypes import CXi
    from metadata.identifiers import APPROVED, DEPRECATED, STUDY_INSTANCE_UID_REFERENCE

    statuses = {"approved": [APPROVED], "deprecated": [DEPRECATED], "all": [APPROVED, DEPRECATED]}
    if status not in statuses:
        raise UsageError(tr("--status is approved, deprecated or all"))
    filters: dict[str, Any] = {"status": statuses[status]}
    if since:
        filters["service_start_time_from"] = since
    if until:
        filters["service_start_time_to"] = until
    if study:
        reference = str(CXi.of(study, STUDY_INSTANCE_UID_REFERENCE))
        return consumer.find_by_reference(patient, [reference], **filters)
    return consumer.find_documents(patient, **filters)


def _row(entry: DocumentEntry) -> tuple[str, ...]:
    def name(code: Code | None) -> str:
        return str(code.display_name or code.code) if code else ""

    size = entry.size or ""
    size = output.bytes_text(int(size)) if size.isdigit() else ""
    start = output.time_text(entry.service_start_time or "")
    status = (entry.availability_status or "").rpartition(":")[2]
    format_code = entry.format_code.code if entry.format_code else ""
    title, unique_id = str(entry.title or ""), str(entry.unique_id or "")
    return title, name(entry.type_code), format_code, start, size, status, unique_id


def _told(entry: DocumentEntry) -> dict[str, Any]:
    """An entry for a script: every attribute that has a value, under the standard's name."""
    return {
        _camel(name): value for name, value in asdict(entry).items() if value not in (None, [], {})
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
