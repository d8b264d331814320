"""What tests of reports need: documents, and a registry in one piece with its repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from metadata.identifiers import APPROVED, DEPRECATED, RPLC
from metadata.model import DocumentEntry
from transactions.iti_41 import ProvideAndRegisterRequest
from transactions.iti_42 import SubmitObjectsRequest
from transactions.iti_62 import RemoveObjectsRequest
from transactions.registry_response import RegistryResponse

PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\nreport\n%%EOF"


def cda(
    *,
    body: str = "<structuredBody/>",
    patient: str = '<id root="1.2.3.4" extension="P1"/>',
    study: str = "",
    accession: str = "",
    document: str = "2.999.1",
    at: str = "20240115093000+0100",
) -> bytes:
    """A CDA document that says as little as a report may."""
    act = f'<documentationOf><serviceEvent><id root="{study}"/></serviceEvent></documentationOf>'
    order = (
        f'<inFulfillmentOf><order><accessionNumber xmlns="urn:dicom-org:ps3-20"'
        f' extension="{accession}"/></order></inFulfillmentOf>'
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="{document}"/>
<title>Scanner thoracique, é&amp;è</title><effectiveTime value="{at}"/>
<languageCode code="fr-FR"/><setId root="2.999.7"/>
<recordTarget><patientRole>{patient}</patientRole></recordTarget>
<legalAuthenticator><assignedEntity><id root="1.2.250.1.71.4.2.1" extension="801"/>
<assignedPerson><name><family>Curie</family><given>Marie</given></name></assignedPerson>
</assignedEntity></legalAuthenticator>{order if accession else ""}{act if study else ""}
<component>{body}</component></ClinicalDocument>""".encode()


@dataclass
class Registry:
    """Entries with their status and documents; refuses to replace what is not in force."""

    status: dict[str, str] = field(default_factory=dict)
    entries: list[DocumentEntry] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    submissions: set[str] = field(default_factory=set)

    def provide_and_register(self, request: ProvideAndRegisterRequest) -> RegistryResponse:
        submission = request.submit.submission
        for association in submission.associations:
            if association.association_type == RPLC:
                assert self.status[association.target] == APPROVED
                self.status[association.target] = DEPRECATED
        for entry in submission.documents:
            self.status[entry.entry_uuid] = APPROVED
            self.entries.append(entry)
            content = request.documents[entry.entry_uuid].chunks()
            self.documents[entry.entry_uuid] = b"".join(content)
        self.submissions.add(submission.submission_sets[0].unique_id or "")
        return RegistryResponse.of()

    def update(self, request: SubmitObjectsRequest) -> RegistryResponse:
        for change in request.submission.associations:
            self.status[change.target] = change.new_status or ""
        return RegistryResponse.of()

    def remove(self, request: RemoveObjectsRequest) -> RegistryResponse:
        for name in request.entry_uuids:
            del self.status[name]
        return RegistryResponse.of()

    def around(self, entries: Sequence[str]) -> list[str]:
        return [one for one in entries if one in self.status]

    def knows(self, submission_set_unique_id: str) -> bool:
        return submission_set_unique_id in self.submissions

    def reports(self) -> list[DocumentEntry]:
        """Every entry of a report, the oldest first."""
        return [one for one in self.entries if one.mime_type != "application/dicom"]

    def in_force(self) -> list[DocumentEntry]:
        return [one for one in self.reports() if self.status.get(one.entry_uuid) == APPROVED]
