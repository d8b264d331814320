"""The sections of ``kosmos.toml`` about trust (``node.config``): who may connect, who is asking,
what he may see, and the record of it all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from node.config_values import (
    AeTitle,
    AuditTarget,
    CodeValue,
    Port,
    Positive,
    Section,
    Sha256,
    Text,
    TokenUri,
)
from node.texts import tr


class ListenerTrustSection(Section):
    """Whom the listeners of one protocol trust, where that is not what the whole node trusts."""

    trust: Path | None = None
    """As tls.trust, for these listeners."""
    crl: Path | None = None
    """As tls.crl, for these listeners; where they have a trust of their own, only this counts."""


class NamedNodeSection(Section):
    """A node known by its certificate. Exactly one of certificate, subject and san says which it
    is."""

    name: Text
    """What the log and the audit trail call it."""
    certificate: Sha256 | None = None
    """SHA-256 of its certificate in hex, colons or not."""
    subject: str | None = None
    """The subject of its certificate as RFC 4514 writes it: CN=pacs,O=Hospital."""
    san: str | None = None
    """A DNS name, address or URI among the alternative names of its certificate."""

    @model_validator(mode="after")
    def _known_by_one_thing(self) -> Self:
        if [self.certificate, self.subject, self.san].count(None) != 2:
            raise ValueError(tr("one of certificate, subject and san"))
        return self


class ProxySection(NamedNodeSection):
    """A proxy that is believed who its client is."""


class KnownNodeSection(NamedNodeSection):
    """A node that may connect."""

    transactions: tuple[NodeTransaction, ...] = ()
    """What it may do: ITI-18, RAD-69, C-STORE, ITI-20 and so on; without any, everything."""
    ae_titles: tuple[AeTitle, ...] = ()
    """Titles by which it may call the DICOM listener; without any, every title that is listened
    to."""


class TlsSection(Section):
    """Node authentication (ITI-19): both ends of a connection show a certificate."""

    enabled: bool = True
    """Whether the endpoints demand TLS and a trusted client certificate."""
    certificate: Path = Path("pki/node.pem")
    """Certificate of this node, its chain behind it (PEM)."""
    key: Path = Path("pki/node.key")
    """Its private key (PEM)."""
    key_password_file: Path | None = None
    """File that holds the password of the key."""
    trust: Path = Path("pki/ca.pem")
    """Certificates that are trusted: of authorities, or of single nodes. A file (PEM or DER), or
    a folder of such files."""
    crl: Path | None = None
    """What the trusted authorities have revoked: a file of CRLs (PEM or DER), or a folder of such
    files. A revoked peer is refused, and everybody of an authority whose CRL has expired."""
    minimum: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken."""
    http: ListenerTrustSection = ListenerTrustSection()
    """The section tls.http."""
    mllp: ListenerTrustSection = ListenerTrustSection()
    """The section tls.mllp."""
    dicom: ListenerTrustSection = ListenerTrustSection()
    """The section tls.dicom."""
    syslog: ListenerTrustSection = ListenerTrustSection()
    """The section tls.syslog."""
    nodes: tuple[KnownNodeSection, ...] = ()
    """Nodes that may connect; without any, everybody who is trusted. Tables [[tls.nodes]] with a
    name, one of certificate (SHA-256 in hex), subject (RFC 4514) and san, and where not everything
    is allowed transactions (ITI-18, RAD-107, C-STORE ...) and ae_titles."""
    proxies: tuple[ProxySection, ...] = ()
    """Proxies that end TLS before this node and are believed who their client is, by the header
    Client-Cert (RFC 9440). Tables [[tls.proxies]] with a name and one of certificate, subject and
    san of the proxy's own certificate, as in tls.nodes."""
    check_host: bool = False
    """Whether a peer's certificate must also name the host that was called (RFC 6125)."""


class AtRestSection(Section):
    """Encryption at rest: documents and images are sealed while they arrive (AES-256-GCM)."""

    enabled: bool = False
    """Whether what arrives is sealed. What is sealed stays readable when it is turned off, while
    `keys` is set."""
    keys: TokenUri | Path | None = Field(default=None, union_mode="left_to_right")
    """File of the keys (`kosmos keys new` makes it), or a PKCS#11 token:
    pkcs11:token=NAME;object=KEY?module-path=/LIB.so&pin-source=/FILE."""


class AuditSection(Section):
    """The audit trail (ITI-20): what this node did with health data, for whom."""

    enabled: bool = True
    """Whether every call leaves a record before it is answered."""
    folder: Path | None = None
    """Folder of the trails, one file a process, and of the key that signs them; without it,
    "audit" in the data folder."""
    source_id: str = ""
    """AuditSourceID of the records; without it, the node's name."""
    site_id: str = ""
    """AuditEnterpriseSiteID of the records."""
    send_to: tuple[AuditTarget, ...] = ()
    """Audit record repositories that get every record too: tls://host:6514; on this machine,
    where nobody listens, also tcp://127.0.0.1:601 and udp://127.0.0.1:514."""
    listen: bool = False
    """Whether this node is an audit record repository for others: syslog over TLS (TCP on a plain
    node) and UDP."""
    udp: bool | None = None
    """Whether that includes UDP, by which nobody proves who sends a record. On a node with TLS it
    must be said; where [[tls.nodes]] name who may send, nothing is taken by UDP."""
    port: Port | None = None
    """Port of that listener; without it, port_base + 5, or 6514."""
    keep_days: Positive | None = None
    """How many days records are to be kept; `kosmos audit prune` lets older ones go, and never a
    younger one. Without it, records leave only by its option --before."""


# What a node may be permitted to do, or a person asked who he is for.
Transaction = Literal[
    "ITI-18",
    "ITI-41",
    "ITI-42",
    "ITI-43",
    "ITI-44",
    "ITI-51",
    "ITI-52",
    "ITI-54",
    "ITI-57",
    "ITI-61",
    "ITI-62",
    "ITI-69",
    "ITI-70",
    "ITI-86",
    "ITI-92",
    "RAD-55",
    "RAD-69",
    "RAD-107",
    "RAD-129",
]
# What a node may be allowed besides: what comes by other ways than SOAP, and what only machines do.
NodeTransaction = (
    Transaction
    | Literal[
        "ITI-8",
        "ITI-20",
        "ITI-64",
        "RAD-108",
        "ORU",
        "C-ECHO",
        "C-STORE",
        "C-FIND",
        "C-MOVE",
        "C-GET",
        "N-ACTION",
        "N-CREATE",
        "N-SET",
        "N-EVENT-REPORT",
    ]
)
# What a person asks for. A registration speaks for a system, which the node's certificate names.
ASKED_BY_PEOPLE: tuple[Transaction, ...] = (
    "ITI-18",
    "ITI-43",
    "ITI-51",
    "RAD-55",
    "RAD-69",
    "RAD-107",
    "RAD-129",
)


class IssuerSection(Section):
    """One whose assertions are believed."""

    name: Text
    """What it calls itself (Issuer)."""
    certificates: Path
    """Its certificates (PEM): several while its key changes."""


class OwnAssertionsSection(Section):
    """Assertions that this node makes, for its commands and for its own calls to other nodes."""

    name: str = ""
    """Under which name (Issuer); without one, none are made."""
    certificate: Path = Path("pki/issuer.pem")
    """Certificate of the issuer (PEM)."""
    key: Path = Path("pki/issuer.key")
    """Its private key (PEM)."""
    key_password_file: Path | None = None
    """File that holds the password of the key."""
    minutes: Positive = 60
    """How long such an assertion holds."""
    role: CodeValue | None = None
    """The role of whoever runs a command of this node."""
    purpose: CodeValue = CodeValue(
        code="TREATMENT", scheme="2.16.840.1.113883.3.18.7.1", display_name="Treatment"
    )
    """Why (PurposeOfUse) such a command looks at health data."""


class AssertionsSection(Section):
    """User assertions (ITI-40, XUA): who is asking, by the word of an issuer that is believed."""

    enabled: bool | None = None
    """Whether assertions are judged, and required; without it, as the node has TLS."""
    issuers: tuple[IssuerSection, ...] = ()
    """Those whose assertions are believed, at least one: tables [[assertions.issuers]] with a name
    (Issuer) and the file of its certificates (PEM)."""
    audiences: tuple[Text, ...] = ()
    """What assertions for this node name as their audience; without any, urn:oid: and the
    homeCommunityId."""
    profile: Path | Literal["xua"] = "xua"
    """File of the assertion profile (TOML), or xua for that of IHE, which ships."""
    required: tuple[Transaction, ...] = ASKED_BY_PEOPLE
    """Transactions that nobody may ask for without an assertion."""
    exempt: tuple[Text, ...] = ()
    """Nodes that may ask without one: SHA-256 (hex) of their certificates, or their subjects as
    RFC 4514 writes them."""
    reuse: Literal["same-node", "never"] = "same-node"
    """Who may bring an assertion again while it holds."""
    skew_seconds: Annotated[int, Field(ge=0, le=60)] = 60
    """How far the clocks of two nodes may be apart."""
    longest_hours: Positive = 12
    """Longest time for which an assertion may hold: a day's work."""
    own: OwnAssertionsSection = OwnAssertionsSection()
    """The section assertions.own."""


class PolicySection(Section):
    """Who may see which documents, where assertions say who asks."""

    file: Path | Literal["default"] = "default"
    """File of the policy (TOML), or default for the one that ships: docs/security.md."""


class ChoicesSection(Section):
    """What patients have decided, and what operators know of them (`kosmos access`)."""

    database: str = ""
    """SQLAlchemy URL; without one, choices.db in the data folder."""
    database_password_file: Path | None = None
    """File that holds the password of the database user."""


class AccessSection(Section):
    """What this node remembers of users: the assertions it has met, emergencies."""

    database: str = ""
    """SQLAlchemy URL; without one, access.db in the data folder. With several web processes it
    must be PostgreSQL."""
    database_password_file: Path | None = None
    """File that holds the password of the database user."""
