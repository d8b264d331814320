"""The queries that search by what objects are: of one patient, or of several.

Covers FindDocuments, FindDocumentsByReferenceId, FindSubmissionSets, FindFolders and GetAll
(ITI TF-2 3.18.4.1.2.3.7.1 to 7.4, 7.14), FindDocumentsForMultiplePatients and
FindFoldersForMultiplePatients (3.51.4.1.2.3). A query for the survivor of a merge finds the
whole chain; one for a subsumed patient finds nothing (3.18.4.1.2.3.9).
"""

from __future__ import annotations

from collections.abc import Sequence

from registry.asked import Asked
from registry.hits import Hit, association_hits, located
from registry.schema import DOCUMENT, FOLDER, SUBMISSION_SET
from registry.search import DOCUMENTS, FOLDERS, SUBMISSION_SETS


def find_documents(asked: Asked) -> Sequence[Hit]:
    """Documents, by their references too."""
    return asked.of_patient(DOCUMENTS)


def find_submission_sets(asked: Asked) -> Sequence[Hit]:
    """Submission sets."""
    return asked.of_patient(SUBMISSION_SETS)


def find_folders(asked: Asked) -> Sequence[Hit]:
    """Folders."""
    return asked.of_patient(FOLDERS)


def get_all(asked: Asked) -> Sequence[Hit]:
    """Everything of a patient, and every association that touches any of it."""
    kinds = ((DOCUMENTS, DOCUMENT), (SUBMISSION_SETS, SUBMISSION_SET), (FOLDERS, FOLDER))
    found = [(asked.of_patient(search), kind) for search, kind in kinds]
    hits = asked.bounded([hit for some, _ in found for hit in some])
    places = [place for some, kind in found for place in located(some, kind)]
    return [*hits, *association_hits(asked.links.touching(places))]


def find_documents_across(asked: Asked) -> Sequence[Hit]:
    """Documents of several patients, or of any."""
    return asked.across_patients(DOCUMENTS)


def find_folders_across(asked: Asked) -> Sequence[Hit]:
    """Folders of several patients, or of any."""
    return asked.across_patients(FOLDERS)
