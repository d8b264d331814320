"""Files of code sets, TOML and codes.xml: written by operators, often of other products."""

from metadata.affinity_domain import AffinityDomain, DomainError
from node.codes import parse
from tests.fuzz.target import Target


def read(data: bytes) -> None:
    """Read the file, then take it as the settings of a domain."""
    settings = {"assigning_authority": "1.2.3", **parse(data).settings}
    AffinityDomain.from_mapping(settings)


def seeds() -> list[bytes]:
    """A file of each form."""
    return [
        b'assigning_authority = "1.2.3"\nlanguages = ["fr-FR"]\nmime_types = "any"\n'
        b'[codes]\nformatCode = "any"\n[codes.classCode]\n"1.2.3.4" = ["31 One", "a b\\tTwo"]\n',
        b'<Codes><AssigningAuthority id="1.2.3"/><CodeType name="classCode" classScheme="urn:uuid:'
        b'41a5887f-8865-4c09-adf7-e362475b143a"><Code code="31" display="Imaging" '
        b'codingScheme="1.2.3.4"/></CodeType><CodeType name="mimeType"><Code code="text/xml" '
        b'ext="xml"/></CodeType><CodeType name="languageCode"><Code code="fr"/></CodeType></Codes>',
    ]


TARGET = Target("codes", read, (DomainError,), seeds, 30_000)
