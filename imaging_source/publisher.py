"""The publisher: a study that has been quiet for a while becomes a manifest in the registry.

Sends RAD-68 (RAD TF-2 4.68) from the outbox. Never publishes twice: what is sent is fixed
in a row first; when the outcome of an attempt is unknown, the identical submission is sent
again; and no refusal is believed before the registry has denied knowing the submission set
(it refuses a duplicate, and the replacement of an entry that our own first attempt has
deprecated). New images of a published study lead to a new manifest that replaces the old, unless
it would say the same; so does the rejection of some, and that of all withdraws it
(``imaging_source.withdrawal``). Several families of manifests go in one submission.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import structlog
from lxml import etree
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from imaging_source import corrections, outbox, reports
from imaging_source.completeness import Signal
from imaging_source.identity import Crossing, Unidentified
from imaging_source.index import describe
from imaging_source.outbox import DueStudy, FurtherManifest, Kind, Publication, State
from imaging_source.reporting import Reporting
from imaging_source.withdrawal import Withdrawal
from manifest.engine import Edition, content_hash, editions
from manifest.entry import Identifiers, PublicationPolicy, build_submission, document_entry
from manifest.model import Manifest, ManifestError, ManifestSeries, Study
from manifest.moments import time_zone_of
from metadata.catalogue import RegistryError
from metadata.datatypes import new_oid, new_uuid_urn
from metadata.identifiers import ERROR, SUCCESS
from soap.message import InMemory
from storage.database import Database
from storage.errors import StorageError
from storage.faultpoints import reach
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.registry_response import RegistryResponse

_log = structlog.get_logger("kosmos.imaging_source")

DEFAULT_QUIET_SECONDS = 30.0
_POLL_SECONDS = 1.0

# A publisher that died in the middle of an attempt is followed by another after this time,
# longer than any answer takes.
_LEASE_SECONDS = 120.0
# A peer that does not answer must not keep the process from stopping within 30 s.
_STOP_SECONDS = 3.0
# Studies made ready in one round: their descriptions are held in memory together.
_STUDIES_PER_ROUND = 20

# Refusals that time may cure (ITI TF-3 4.2.4.1): too much work, too little room, a registry
# that is away, a failure inside; and a patient whose identity feed is still on its way.
TRANSIENT_CODES = frozenset(
    {
        "XDSRegistryBusy",
        "XDSRepositoryBusy",
        "XDSRegistryOutOfResources",
        "XDSRepositoryOutOfResources",
        "XDSRegistryNotAvailable",
        "XDSRegistryError",
        "XDSRepositoryError",
        "XDSUnknownPatientId",
        "XDSPatientIdDoesNotMatch",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the published instances are retrieved from, as the manifest says it."""

    repository_unique_id: str
    """Retrieve Location UID: the imaging source's own repositoryUniqueId."""
    ae_title: str = ""
    wado_url: str = ""
    """Base of the WADO-RS service."""
    viewer_url: str = ""
    """What opens a study in a viewer, ``{study}`` standing for its UID."""


class Publisher:
    """Publishes the studies of one database.

    ``provide_and_register`` sends RAD-68 and returns the answer; whatever it raises means
    "outcome unknown". ``already_registered`` asks the registry whether it has the submission
    set with a given uniqueId (ITI-18). ``withdrawal`` takes back the manifest of a study that has
    no image left. ``crossing`` knows patients of other domains in the affinity domain. ``believed``
    are the signals by which a study is complete before it has been quiet. ``reporting`` makes
    reports ready, which go the same way. ``policy`` may be replaced at any time: manifests made
    from then on follow the new one.
    """

    def __init__(
        self,
        database: Database,
        policy: PublicationPolicy,
        place: Place,
        provide_and_register: Callable[[ProvideAndRegisterRequest], RegistryResponse],
        already_registered: Callable[[str], bool],
        *,
        withdrawal: Withdrawal | None = None,
        crossing: Crossing | None = None,
        believed: Sequence[Signal] = (),
        reporting: Reporting | None = None,
        quiet_seconds: float = DEFAULT_QUIET_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self.policy = policy
        self._place = place
        self._provide_and_register = provide_and_register
        self._already_registered = already_registered
        self._withdrawal = withdrawal
        self._crossing = crossing
        self._believed = believed
        self.reporting = reporting
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Publish from a thread until ``stop``.

        What an earlier process left in the middle is tried at once: its outcome is unknown,
        and sending the same submission again is harmless.
        """
        now = self._clock()
        self._database.write(lambda connection: outbox.resume(connection, now))
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the publication under way, or leave it to the next process."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def run_once(self) -> int:
        """Make ready what is due and send what is ready; how many submissions were sent."""
        self._make_ready()
        if self.reporting is not None:
            self.reporting.make_ready()
        sent = 0
        while not self._stopping.is_set() and (publication := self._claim()) is not None:
            self._send(publication)
            sent += 1
        return sent

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except StorageError as error:
                _log.error("publishing waits", code="publisher-storage", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - a thread that ended would publish nothing more
                _log.error("publishing waits", code="publisher-failed", exc_info=error)
            self._stopping.wait(_POLL_SECONDS)

    # --- from study to row

    def _make_ready(self) -> None:
        now = self._clock()
        since = now - self._quiet_seconds
        with self._database.read() as connection:  # one snapshot: revision and content agree
            astray = corrections.are_astray(connection)
            due = outbox.due_studies(connection, since, _STUDIES_PER_ROUND, now, self._believed)
            described = [(study, describe(connection, study.study_instance_uid)) for study in due]
            earlier = {
                study: outbox.last_published(connection, study.study_instance_uid) for study in due
            }
        if astray:  # nothing is published under an identifier that is another's by now
            self._database.write(partial(corrections.adopt, now=now))
            return
        for study, (description, series) in described:
            if not series and study.replaces is None:
                self._database.write(partial(outbox.pass_over, due=study))
            elif (identified := self._identified(description)) is not None:
                self._queue(study, self._manifest(identified, series), earlier[study])

    def _identified(self, study: Study) -> Study | None:
        """The study with its patient's identifier in the domain; None if it has to wait for it."""
        if self._crossing is None:
            return study
        try:
            domain_id = self._crossing.domain_id(study.patient)
        except Unidentified as error:
            _log.warning("patient not identified", code="publisher-unidentified", reason=str(error))
            uid, reason, now = study.study_instance_uid, str(error), self._clock()
            self._database.write(lambda one: outbox.wait_for_patient(one, uid, reason, now))
            return None
        return replace(study, patient=replace(study.patient, domain_id=domain_id))

    def _queue(self, due: DueStudy, manifest: Manifest, last: Publication | None) -> None:
        row = self._publication(due, manifest, last)
        if due.replaces and last is not None and row.content_hash == last.content_hash is not None:
            self._database.write(partial(outbox.leave, due=due))
            return
        with suppress(IntegrityError):  # another publisher was faster
            self._database.write(partial(_enqueue, publication=row, study=manifest.study))

    def _publication(
        self, due: DueStudy, manifest: Manifest, last: Publication | None
    ) -> Publication:
        """The row for a study: all bytes and identifiers of what will be sent.

        A study that cannot be published gets a failed row, so that somebody sees it and the
        studies behind it are not held up.
        """
        now = self._clock()
        row = Publication(
            submission_set_unique_id=new_oid(),
            study_instance_uid=due.study_instance_uid,
            revision=due.revision,
            entry_uuid=new_uuid_urn(),
            manifest_uid=manifest.sop_instance_uid,
            manifest=b"",
            metadata=b"",
            state=State.PENDING,
            attempts=0,
            next_attempt_at=now,
            created_at=now,
        )
        try:
            if not manifest.series:
                return self._withdrawn(row, manifest)
            return self._filled(row, manifest, due.replaces, last)
        except Exception as error:  # noqa: BLE001 - whatever an image can hold, the others go on
            _log.error("study cannot be published", code="publisher-unpublishable", exc_info=error)
            reason = str(error) if isinstance(error, ManifestError) else type(error).__name__
            return replace(row, state=State.FAILED, error=reason)

    def _withdrawn(self, row: Publication, manifest: Manifest) -> Publication:
        """``row`` for a published study that has no image left."""
        if self._withdrawal is None:
            raise ManifestError("the study has no image left, and its entry cannot be withdrawn")
        with self._database.read() as connection:
            entries = outbox.manifest_entries(connection, row.study_instance_uid)
        entry = document_entry(manifest, self.policy, self.policy.flavours[0], row.entry_uuid)
        names = _identifiers(row)
        (named,) = build_submission(manifest.study, [entry], self.policy, names).submission_sets
        return replace(
            row, kind=self._withdrawal.kind, metadata=self._withdrawal.message(entries, named)
        )

    def _filled(
        self, row: Publication, manifest: Manifest, replaces: str | None, last: Publication | None
    ) -> Publication:
        """The row with what will be sent: one document for each family of the policy."""
        policy = self.policy
        first, *others = editions(manifest, policy, row.entry_uuid)
        submission = build_submission(
            manifest.study,
            [first.entry, *(one.entry for one in others)],
            policy,
            _identifiers(row),
            _replaced(first, others, replaces, last),
        )
        return replace(
            row,
            manifest=first.content,
            metadata=etree.tostring(SubmitObjectsRequest.of(submission).element),
            content_hash=content_hash(manifest, policy),
            further=tuple(
                FurtherManifest(one.flavour, one.entry.entry_uuid, one.content) for one in others
            ),
        )

    def _manifest(self, study: Study, series: tuple[ManifestSeries, ...]) -> Manifest:
        zone = time_zone_of(study, self.policy.time_zone)
        located = (
            replace(
                one,
                retrieve_location_uid=self._place.repository_unique_id,
                retrieve_ae_title=self._place.ae_title,
                retrieve_url=self._place.wado_url,
            )
            for one in series
        )
        return Manifest(
            sop_instance_uid=new_oid(),
            series_instance_uid=new_oid(),
            study=study,
            series=tuple(located),
            created=datetime.fromtimestamp(self._clock(), UTC).astimezone(zone),
            display_url=self._place.viewer_url.replace("{study}", study.study_instance_uid),
        )

    # --- from row to registry

    def _claim(self) -> Publication | None:
        now = self._clock()
        return self._database.write(
            lambda connection: outbox.claim(connection, now, now + _LEASE_SECONDS)
        )

    def _send(self, publication: Publication) -> None:
        try:
            reach("publisher.before_send")
            response = self._perform(publication)
            reach("publisher.after_send")
            published = response.status == SUCCESS or self._confirmed(publication, response)
        except Exception as error:  # noqa: BLE001 - any failure to hear the answer is the same
            kind = type(error).__name__
            _log.warning("outcome unknown", code="publisher-outcome-unknown", error=kind)
            self._postpone(publication, f"outcome unknown: {kind}")
            return
        if published:
            self._database.write(lambda connection: outbox.settle(connection, publication))
            kind, attempts = publication.kind.value, publication.attempts
            _log.info("published", code="publisher-published", kind=kind, attempts=attempts)
        else:
            self._refused(publication, response)

    def _perform(self, publication: Publication) -> RegistryResponse:
        if publication.kind in outbox.PUBLISHING:
            return self._provide_and_register(_request(publication))
        if self._withdrawal is None:
            raise ManifestError("entries cannot be withdrawn")
        return self._withdrawal.send(publication)

    def _confirmed(self, publication: Publication, response: RegistryResponse) -> bool:
        """Whether a refused submission is in the registry all the same: sent by us before.

        A registry may say no more of a duplicate than XDSRegistryError: from the second
        attempt on, the wording of a refusal is not believed either.
        """
        if _is_transient(response) and publication.attempts == 1:
            return False
        if publication.kind is Kind.REMOVAL and self._withdrawal is not None:
            return self._withdrawal.is_done(publication)
        return self._already_registered(publication.submission_set_unique_id)

    def _refused(self, publication: Publication, response: RegistryResponse) -> None:
        codes = [error.code for error in _errors(response)]
        text = "\n".join(f"{error.code}: {error.context}" for error in _errors(response))
        if _is_transient(response):
            _log.warning("publication waits", code="publisher-refused-now", codes=codes)
            self._postpone(publication, text)
        else:
            _log.error("publication refused", code="publisher-refused", codes=codes)
            self._database.write(
                lambda connection: outbox.park(connection, publication, text or response.status)
            )

    def _postpone(self, publication: Publication, error: str) -> None:
        until = self._clock() + outbox.wait_seconds(publication.attempts)
        self._database.write(
            lambda connection: outbox.postpone(connection, publication, until, error)
        )


def _enqueue(connection: Connection, publication: Publication, study: Study) -> None:
    """Put a manifest in the outbox, and let reports that wait for its study follow."""
    outbox.enqueue(connection, publication)
    accessions = [one.accession_number for one in study.requests]
    reports.wake(connection, study.study_instance_uid, accessions)


def _identifiers(row: Publication) -> Identifiers:
    return Identifiers(
        submission_set_uuid=new_uuid_urn(),
        submission_set_unique_id=row.submission_set_unique_id,
    )


def _replaced(
    first: Edition, others: list[Edition], replaces: str | None, last: Publication | None
) -> dict[str, list[str]]:
    """What each new entry takes the place of: that of its own family, if there was one.

    The entry that speaks for the study replaces the one before and those of families that are
    published no more.
    """
    before = {} if last is None else {one.flavour: one.entry_uuid for one in last.further}
    replaced = {
        one.entry.entry_uuid: [before.pop(one.flavour)] for one in others if one.flavour in before
    }
    gone = [replaces, *before.values()] if replaces else []
    return {first.entry.entry_uuid: [one for one in gone if one], **replaced}


def _request(publication: Publication) -> ProvideAndRegisterRequest:
    """The submission as its row fixed it; made anew each time, for a receiver may edit it."""
    submit = SubmitObjectsRequest(etree.fromstring(publication.metadata))
    documents = {one.entry_uuid: InMemory(one.manifest) for one in publication.further}
    documents[publication.entry_uuid] = InMemory(publication.manifest)
    return ProvideAndRegisterRequest(submit, documents)


def _errors(response: RegistryResponse) -> list[RegistryError]:
    return [error for error in response.errors if error.severity == ERROR]


def _is_transient(response: RegistryResponse) -> bool:
    errors = _errors(response)
    return bool(errors) and all(error.code in TRANSIENT_CODES for error in errors)
