"""Every ebRIM among the public samples is read, or fails for the reason its origin gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from metadata.ebrim import read_objects
from metadata.identifiers import RIM
from metadata.model import Submission

SAMPLES = Path(__file__).parents[2].parent / "shared" / "standards" / "samples"
# The older test kit writes ebRIM 2.1; its own loader turns that into 3.0 as below.
RIM_2_1 = b"urn:oasis:names:tc:ebxml-regrep:rim:xsd:2.1"
OASIS = "urn:oasis:names:tc:ebxml-regrep:AssociationType:"
IHE = "urn:ihe:iti:2007:AssociationType:"
LIST = f"{{{RIM}}}RegistryObjectList"

# This one really repeats a Slot.
REPEATS_LANGUAGE_CODE = "testkit-metadata/12346/single_doc.xml"


def sample_files(folder: str) -> list[Path]:
    found = sorted((SAMPLES / folder).rglob("*.xml"))
    return [path for path in found if b"RegistryObjectList" in path.read_bytes()]


def relative(path: Path) -> str:
    return str(path.relative_to(SAMPLES))


def upgraded(data: bytes) -> etree._Element:
    """ebRIM 2.1 as 3.0: names, full association types, the ids 2.1 did without."""
    modern = data.replace(RIM_2_1, RIM.encode())
    root = etree.fromstring(modern.replace(b"LeafRegistryObjectList", b"RegistryObjectList"))
    for number, element in enumerate(root.iter(f"{{{RIM}}}*")):
        kind = element.get("associationType")
        if kind and ":" not in kind:
            element.set("associationType", (OASIS if kind == "HasMember" else IHE) + kind)
        if element.tag == f"{{{RIM}}}Association" and element.get("id") is None:
            element.set("id", f"assoc{number}")
        parent = element.getparent()
        if parent is not None and element.tag == f"{{{RIM}}}ExternalIdentifier":
            element.set("registryObject", parent.get("id", ""))
    return root


def read(root: etree._Element) -> Submission:
    objects = root if root.tag == LIST else next(root.iter(LIST))
    return read_objects(objects)


def errors(submission: Submission) -> list[str]:
    return [fault.message() for fault in submission.faults if not fault.rule.is_warning]


@pytest.mark.parametrize("path", sample_files("testkit-metadata"), ids=relative)
def test_submissions_of_the_test_kit_read_without_error(
    path: Path, reread: Callable[[Submission], Submission]
) -> None:
    submission = read(upgraded(path.read_bytes()))
    rules = [fault.rule.id for fault in submission.faults if not fault.rule.is_warning]
    assert rules == (["slot-repeated"] if relative(path) == REPEATS_LANGUAGE_CODE else [])
    assert len(submission.submission_sets) == 1
    assert submission.documents or submission.folders or submission.associations
    assert list(reread(submission).objects()) == list(submission.objects())


@pytest.mark.parametrize("path", sample_files("xds-bodies"), ids=relative)
def test_public_bodies_read_without_error(
    path: Path, reread: Callable[[Submission], Submission]
) -> None:
    submission = read(etree.parse(path).getroot())
    assert errors(submission) == []
    assert list(reread(submission).objects()) == list(submission.objects())


@pytest.mark.parametrize("path", sample_files("soap"), ids=relative)
def test_bodies_of_public_soap_messages_read_without_error(path: Path) -> None:
    assert errors(read(etree.parse(path).getroot())) == []


def test_the_samples_are_all_there(standards: Path) -> None:
    counts = [len(sample_files(name)) for name in ("testkit-metadata", "xds-bodies", "soap")]
    assert counts == [26, 8, 4]
