"""The XDS information model: what every room of the house speaks.

Covers ITI TF-3 4.2 and 4.3 (DocumentEntry, SubmissionSet, Folder, Association and their
coded values) with the logicalID, version and documentAvailability of Metadata Update.
Objects are plain data: reading, writing and judging them is done elsewhere
(``metadata.ebrim``, ``metadata.validation``). Attribute names are the standard's, in
snake_case. A value that a sender got wrong is kept as it came, so that validation can
report it; nothing in this module raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from metadata.datatypes import CX, DTM, OID, XCN, XON, XTN, CXi, LocalizedString, Recipient

if TYPE_CHECKING:
    from metadata.catalogue import Fault


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value (ITI TF-3 4.2.3.1.2): equal codes share ``code`` and ``scheme``.

    The display name is for people and never takes part in a comparison made by a registry.
    """

    code: str
    scheme: str
    display_name: LocalizedString = field(default=LocalizedString(""), compare=False)


@dataclass(slots=True)
class Author:
    """One author of a document or a submission (ITI TF-3 4.2.3.1.4)."""

    person: XCN | None = None
    institution: list[XON] = field(default_factory=list)
    role: list[str] = field(default_factory=list)
    specialty: list[str] = field(default_factory=list)
    telecommunication: list[XTN] = field(default_factory=list)


@dataclass(slots=True)
class RegistryObject:
    """What DocumentEntry, SubmissionSet, Folder and Association have in common.

    ``entry_uuid`` is a ``urn:uuid:`` or, inside a submission, a symbolic name.
    ``extra_slots`` keeps the slots that the model does not know, in the sender's order
    (ITI TF-3 4.2.3.1.6).
    """

    entry_uuid: str = ""
    home_community_id: str | None = None
    availability_status: str | None = None
    extra_slots: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class DescribedObject(RegistryObject):
    """The attributes shared by DocumentEntry, SubmissionSet and Folder."""

    unique_id: str | None = None
    patient_id: CX | None = None
    title: LocalizedString | None = None
    comments: LocalizedString | None = None
    limited_metadata: bool = False
    logical_id: str | None = None
    version: str | None = None


@dataclass(slots=True)
class DocumentEntry(DescribedObject):
    """A document as the registry knows it (ITI TF-3 4.2.3.2): rim:ExtrinsicObject."""

    object_type: str | None = None
    mime_type: str | None = None
    author: list[Author] = field(default_factory=list)
    class_code: Code | None = None
    type_code: Code | None = None
    format_code: Code | None = None
    healthcare_facility_type_code: Code | None = None
    practice_setting_code: Code | None = None
    confidentiality_code: list[Code] = field(default_factory=list)
    event_code_list: list[Code] = field(default_factory=list)
    creation_time: DTM | None = None
    service_start_time: DTM | None = None
    service_stop_time: DTM | None = None
    language_code: str | None = None
    legal_authenticator: XCN | None = None
    source_patient_id: CX | None = None
    source_patient_info: list[str] = field(default_factory=list)
    reference_id_list: list[CXi] = field(default_factory=list)
    repository_unique_id: OID | None = None
    hash: str | None = None
    size: str | None = None
    uri: str | None = None
    document_availability: str | None = None


@dataclass(slots=True)
class SubmissionSet(DescribedObject):
    """What one sender handed over in one go (ITI TF-3 4.2.3.3): rim:RegistryPackage."""

    author: list[Author] = field(default_factory=list)
    content_type_code: Code | None = None
    intended_recipient: list[Recipient] = field(default_factory=list)
    source_id: OID | None = None
    submission_time: DTM | None = None


@dataclass(slots=True)
class Folder(DescribedObject):
    """Documents kept together (ITI TF-3 4.2.3.4): rim:RegistryPackage."""

    code_list: list[Code] = field(default_factory=list)
    last_update_time: DTM | None = None


@dataclass(slots=True)
class Association(RegistryObject):
    """A link between two registry objects (ITI TF-3 4.2.2): rim:Association.

    ``submission_set_status`` is ``Original`` or ``Reference`` on a SubmissionSet's
    HasMember to a DocumentEntry. The last four attributes belong to Metadata Update.
    """

    association_type: str = ""
    source: str = ""
    target: str = ""
    submission_set_status: str | None = None
    documentation: Code | None = None
    previous_version: str | None = None
    association_propagation: str | None = None
    original_status: str | None = None
    new_status: str | None = None

    @property
    def type_name(self) -> str:
        """The last word of the type, by which people know it: "HasMember", "RPLC"."""
        return self.association_type.rpartition(":")[2]


AnyObject = DocumentEntry | SubmissionSet | Folder | Association
AnyModel = TypeVar("AnyModel", bound=AnyObject)


@dataclass(slots=True)
class Submission:
    """The registry objects of one message, by kind, each kind in the sender's order.

    A valid registration holds exactly one SubmissionSet; a query answer may hold any
    number. ``faults`` are those that can be seen only while reading (two class codes, a
    slot with two values where one is allowed ...): validation adds its own to them.
    ``object_refs`` are the bare references of an ObjectRef answer.
    """

    submission_sets: list[SubmissionSet] = field(default_factory=list)
    documents: list[DocumentEntry] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    associations: list[Association] = field(default_factory=list)
    object_refs: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def objects(self) -> Iterator[AnyObject]:
        """Every object, SubmissionSets first, associations last."""
        yield from self.submission_sets
        yield from self.documents
        yield from self.folders
        yield from self.associations


_FIELDS: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    model: attrgetter(*(item.name for item in fields(model)))
    for model in (DocumentEntry, SubmissionSet, Folder, Association)
}


def changed(obj: AnyModel, **values: Any) -> AnyModel:
    """A copy of ``obj`` with other values, in a tenth of the time of ``dataclasses.replace``."""
    copy = type(obj)(*_FIELDS[type(obj)](obj))
    for name, value in values.items():
        setattr(copy, name, value)
    return copy
