"""Rules for manifests that are Key Object Selection documents: XDS-I.b, and MADO in that form."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from pydicom.dataset import Dataset

from manifest.library import text_of
from manifest.model import KEY_OBJECT_SELECTION, MANIFEST
from manifest.rules.content import (
    all_series,
    codes_of,
    in_tree,
    items_of,
    listed,
    referenced,
    studies,
)
from manifest.rules.rule import MADO_CONTENT, XDS_I_CONTENT, Family, Rules

RULES = Rules(Family.XDS_I, Family.MADO_KOS)

# PS3.5 9.1: arcs without leading zeros; 64 characters are counted apart.
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")


@RULES.rule(
    "K01", "The SOP class is that of a KOS", "La classe SOP est celle d'un KOS", spec="PS3.3 A.35.4"
)
def _sop_class(dataset: Dataset) -> Iterator[str]:
    if text_of(dataset, "SOPClassUID") != KEY_OBJECT_SELECTION:
        yield "SOP Class UID is not that of Key Object Selection Document"


@RULES.rule(
    "K02",
    "A DICOM file with meta information",
    "Un fichier DICOM avec ses méta-informations",
    spec="PS3.10 7.1",
)
def _file_meta(dataset: Dataset) -> Iterator[str]:
    meta = getattr(dataset, "file_meta", Dataset())
    if text_of(meta, "MediaStorageSOPInstanceUID") != text_of(dataset, "SOPInstanceUID"):
        yield "Media Storage SOP Instance UID is not the SOP Instance UID"
    if not text_of(meta, "TransferSyntaxUID"):
        yield "Transfer Syntax UID is missing"


@RULES.rule("K03", "The modality is KO", "La modalité est KO", spec="PS3.3 C.17.6.1")
def _modality(dataset: Dataset) -> Iterator[str]:
    if text_of(dataset, "Modality") != "KO":
        yield "Modality is not KO"


@RULES.rule("K04", "The template is TID 2010", "Le modèle est TID 2010", spec="PS3.16 TID 2010")
def _template(dataset: Dataset) -> Iterator[str]:
    named = [
        (text_of(one, "MappingResource"), text_of(one, "TemplateIdentifier"))
        for one in items_of(dataset, "ContentTemplateSequence")
    ]
    if named != [("DCMR", "2010")]:
        yield "Content Template Sequence does not name DCMR 2010"


@RULES.rule("K05", "It is about one study", "Il porte sur un seul examen", spec=XDS_I_CONTENT)
def _one_study(dataset: Dataset) -> Iterator[str]:
    count = len(studies(dataset))
    if count != 1:
        yield f"the evidence sequence lists {count} studies"
    if "IdenticalDocumentsSequence" in dataset:
        yield "Identical Documents Sequence is for several studies"


@RULES.rule(
    "K06",
    "Every series lists an instance",
    "Chaque série liste une instance",
    spec=XDS_I_CONTENT,
)
def _instances(dataset: Dataset) -> Iterator[str]:
    series = all_series(dataset)
    if not series:
        yield "no series is listed"
    for item in series:
        if not referenced(item):
            yield f"series {text_of(item, 'SeriesInstanceUID')} lists nothing"


@RULES.rule(
    "K07",
    "No instance is listed twice",
    "Aucune instance n'est listée deux fois",
    spec="PS3.3 C.17.6.2",
)
def _no_repetition(dataset: Dataset) -> Iterator[str]:
    for uid, count in Counter(listed(dataset)).items():
        if count > 1:
            yield f"{uid} is listed {count} times"


@RULES.rule("K08", "It does not list itself", "Il ne se liste pas lui-même", spec=MADO_CONTENT)
def _not_itself(dataset: Dataset) -> Iterator[str]:
    if text_of(dataset, "SOPInstanceUID") in listed(dataset):
        yield "the manifest is in its own list"


@RULES.rule("K09", "Every UID is one", "Chaque UID en est un", spec="PS3.5 9.1")
def _uids(dataset: Dataset) -> Iterator[str]:
    named = [text_of(dataset, "SOPInstanceUID"), text_of(dataset, "SeriesInstanceUID")]
    named += [text_of(item, "SeriesInstanceUID") for item in all_series(dataset)]
    for uid in (*studies(dataset), *named, *listed(dataset)):
        if len(uid) > 64 or _UID.fullmatch(uid) is None:
            yield f"{uid[:64]!r} is not a UID"


@RULES.rule(
    "K10",
    "Every series says by RAD-69 where it is (Retrieve Location UID)",
    "Chaque série dit où elle est par RAD-69 (Retrieve Location UID)",
    spec=XDS_I_CONTENT,
)
def _location(dataset: Dataset) -> Iterator[str]:
    yield from _without(dataset, "RetrieveLocationUID")


@RULES.rule(
    "K11",
    "Referenced Request Sequence is there, each item of this study",
    "Referenced Request Sequence est présente, chaque élément pour cet examen",
    spec="PS3.3 C.17.6.2",
)
def _requests(dataset: Dataset) -> Iterator[str]:
    items = items_of(dataset, "ReferencedRequestSequence")
    if not items:
        yield "Referenced Request Sequence has no item"
    for number, item in enumerate(items, 1):
        if text_of(item, "StudyInstanceUID") not in studies(dataset):
            yield f"item {number} is of another study"
        if "AccessionNumber" not in item:
            yield f"item {number} has no Accession Number"


@RULES.rule(
    "K12",
    "The content tree names nothing that the evidence does not list",
    "L'arbre de contenu ne nomme rien que les preuves ne listent",
    spec="PS3.3 C.17.6.2",
)
def _tree_within_evidence(dataset: Dataset) -> Iterator[str]:
    beyond = set(in_tree(dataset)) - set(listed(dataset))
    if beyond:
        yield f"{len(beyond)} instances of the tree are not in the evidence sequence"


@RULES.rule(
    "X01", "The title is Manifest", "Le titre est Manifest", spec=XDS_I_CONTENT, only=Family.XDS_I
)
def _title(dataset: Dataset) -> Iterator[str]:
    if codes_of(dataset, "ConceptNameCodeSequence") != [(MANIFEST.code, MANIFEST.scheme)]:
        yield "the document title is not (113030, DCM, Manifest)"


@RULES.rule(
    "X02",
    "Every series says by C-MOVE where it is (Retrieve AE Title)",
    "Chaque série dit où elle est par C-MOVE (Retrieve AE Title)",
    spec=XDS_I_CONTENT,
    only=Family.XDS_I,
)
def _ae_title(dataset: Dataset) -> Iterator[str]:
    yield from _without(dataset, "RetrieveAETitle")


@RULES.rule(
    "X03",
    "The content tree names every listed instance",
    "L'arbre de contenu nomme chaque instance listée",
    spec="PS3.16 TID 2010",
    only=Family.XDS_I,
)
def _evidence_in_tree(dataset: Dataset) -> Iterator[str]:
    left_out = set(listed(dataset)) - set(in_tree(dataset))
    if left_out:
        yield f"{len(left_out)} listed instances are not in the content tree"


def _without(dataset: Dataset, keyword: str) -> Iterator[str]:
    for series in all_series(dataset):
        if not text_of(series, keyword):
            yield f"series {text_of(series, 'SeriesInstanceUID')} has no {keyword}"
