"""What is tested: endpoints of the system under test, and the agreements it lives by.

An endpoint left out means that the cases which need it are not run. Everything else has a
default that suits a node as ``kosmos init`` makes it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from conformance.access import AccessTable
from conformance.text import Text
from metadata.affinity_domain import AffinityDomain, default_codes
from metadata.datatypes import CX, LocalizedString, is_oid
from metadata.model import Code
from security.assertions.issuing import Issuer
from security.pki import Identity

DEFAULT_AUTHORITY = "1.2.250.1.213.1.4.10"
"""The French test domain of the national health identifier: never a real patient's."""

PATIENTS_NEEDED = 3
"""The most patients one case works with: enough for a chain of two merges."""

MADE_UP_SCHEME = "2.25.1"
"""Scheme of the codes used where a code set is open."""


class NotRun(Exception):
    """A case cannot be run; the text says why."""

    def __init__(self, reason: Text) -> None:
        super().__init__(reason.en)
        self.reason = reason


def default_domain() -> AffinityDomain:
    """The code sets that come with Kosmos."""
    return AffinityDomain.from_mapping(
        {**default_codes(), "assigning_authority": DEFAULT_AUTHORITY}
    )


@dataclass(frozen=True, slots=True)
class Study:
    """An instance that the imaging source is known to hold."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str

    @classmethod
    def parse(cls, text: str) -> Study:
        """The study written ``STUDY/SERIES/INSTANCE``; raises ValueError otherwise."""
        uids = text.split("/")
        if len(uids) != 3 or not all(is_oid(uid) for uid in uids):
            raise ValueError(f"{text!r} is not STUDY/SERIES/INSTANCE, three UIDs")
        return cls(*uids)


@dataclass(frozen=True, slots=True)
class Targets:
    """The endpoints and agreements of the system under test.

    ``registry``, ``repository``, ``imaging`` and ``identity_v3`` are URLs, ``mllp`` is
    ``HOST:PORT``. ``patients`` are identifiers (without authority) the registry knows, used
    where there is no feed to announce some. ``domain`` holds the code sets;
    ``assigning_authority`` the OID and ``namespace`` the name of the patient domain.
    ``link_change``, ``multi_patient``, ``on_demand`` and ``administration`` tell which options
    are offered; ``on_demand_type`` is a typeCode whose documents the repository assembles.
    ``subscriptions`` is the URL of a broker that reaches ``listener``, ``HOST:PORT`` of this
    machine; ``broker_restart`` a command that kills and restarts it.
    ``repository_facing_simulator`` is the URL of a repository that sends its ITI-42 to
    ``simulator_port`` of this machine; ``crash`` a command that kills and restarts it.
    ``dicomweb`` and ``wado_uri`` are URLs of the imaging source, ``dicom`` is its ``AE@HOST:PORT``;
    ``move_to`` is an ``AE@HOST:PORT`` of this machine that the source knows as a destination.
    ``publishes`` tells that its manifests come to ``repository`` and ``registry``.
    ``big_document`` is in bytes, ``timeout`` in seconds for one exchange. ``ssl_context`` is
    for https; with ``mllp_tls`` also for MLLP, with ``dicom_tls`` for DICOM. ``issuer`` makes the
    assertions of who asks that a registry demands (ITI-40); without one no call brings any.
    ``authority`` is one whose certificates the registry believes, ``direct`` a certificate that it
    knows by itself.
    ``access`` tells what each caller may see, ``treat`` is a command that has ``{who}`` treat
    ``{patient}``. ``audit_listener`` is ``HOST:PORT`` of this machine, where the system sends its
    audit records, by TLS where there is ``audit_tls``.
    """

    registry: str | None = None
    repository: str | None = None
    imaging: str | None = None
    mllp: str | None = None
    identity_v3: str | None = None
    link_change: bool = False
    multi_patient: bool = False
    on_demand: bool = False
    on_demand_type: Code | None = None
    administration: bool = False
    assigning_authority: str = DEFAULT_AUTHORITY
    namespace: str | None = None
    patients: tuple[str, ...] = ()
    domain: AffinityDomain = field(default_factory=default_domain)
    repository_unique_id: str | None = None
    imaging_unique_id: str | None = None
    study: Study | None = None
    dicomweb: str | None = None
    wado_uri: str | None = None
    dicom: str | None = None
    move_to: str | None = None
    publishes: bool = False
    repository_facing_simulator: str | None = None
    simulator_port: int = 0
    subscriptions: str | None = None
    listener: str | None = None
    broker_restart: str | None = None
    crash: str | None = None
    big_document: int = 64 * 1024 * 1024
    timeout: float = 60.0
    ssl_context: ssl.SSLContext | None = None
    issuer: Issuer | None = None
    authority: Identity | None = None
    direct: Identity | None = None
    access: AccessTable = field(default_factory=AccessTable.read)
    treat: str | None = None
    audit_listener: str | None = None
    audit_tls: ssl.SSLContext | None = None
    mllp_tls: bool = False
    dicom_tls: bool = False

    def gives(self, need: str) -> bool:
        """Whether a need of a case (a key of ``case.NEEDS``) is met."""
        if need == "feed":
            return self.mllp is not None or self.identity_v3 is not None
        if need == "study":
            return self.study is not None or self.gives("images")
        if need == "images":
            return self.dicom is not None or self.dicomweb is not None
        if need == "patients":
            return self.gives("feed") or len(self.patients) >= PATIENTS_NEEDED
        if need == "secured":
            secured = (self.registry or "").startswith("https:")
            return secured and self.ssl_context is not None
        return getattr(self, need) not in (None, False)

    def endpoint(self, name: str) -> str:
        """The URL of an endpoint that the case has asked for among its needs."""
        url = getattr(self, name)
        assert isinstance(url, str)
        return url

    def mllp_address(self) -> tuple[str, int]:
        """Host and port of the patient feed; raises NotRun when they cannot be read."""
        return _address(self.mllp)

    def listener_address(self) -> tuple[str, int]:
        """Host and port of the kit's own listener; raises NotRun when they cannot be read."""
        return _address(self.listener)

    def audit_address(self) -> tuple[str, int]:
        """Host and port of the kit's audit record repository; raises NotRun as above."""
        return _address(self.audit_listener)

    def cx(self, identifier: str) -> CX:
        """A patient identifier in the domain of the system under test."""
        return CX.of(identifier, self.assigning_authority)

    def codes(self, name: str) -> list[Code]:
        """Codes accepted for an attribute, at least two; made up where the set is open.

        Raises NotRun when the set has fewer.
        """
        allowed = self.domain.code_sets.get(name)
        if allowed is None:
            return [
                Code(f"KIT{n}", MADE_UP_SCHEME, LocalizedString(f"Test {n}")) for n in (1, 2, 3)
            ]
        codes = [
            Code(code, scheme, LocalizedString(text))
            for (scheme, code), text in allowed.names.items()
        ]
        if len(codes) < 2:
            raise NotRun(Text(f"{name} has fewer than two codes", f"{name} a moins de deux codes"))
        return codes

    def unlisted_code(self, name: str) -> Code:
        """A code that the affinity domain does not allow; raises NotRun where all are."""
        if self.domain.code_sets.get(name) is None:
            raise NotRun(Text(f"{name} is open to any code", f"{name} accepte tout code"))
        return Code("KIT-UNKNOWN", self.codes(name)[0].scheme, LocalizedString("Unknown"))


def _address(place: str | None) -> tuple[str, int]:
    host, _, port = (place or "").rpartition(":")
    if not host or not port.isdigit():
        raise NotRun(Text(f"{place!r} is not HOST:PORT", f"{place!r} n'est pas HÔTE:PORT"))
    return host.strip("[]"), int(port)
