"""The queries that start from known objects and follow what links them.

Covers the Get queries of ITI TF-2 3.18.4.1.2.3.7.5 to 7.13. Each takes a fixed number of
statements, however many objects it is about: where the objects are, what links them, what they
are. An association is shown only between objects that are shown, but for the queries that ask
for whatever touches an object.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from registry.asked import Asked, of_kind
from registry.hits import ENTRY_UUID, Hit, association_hits, entry_uuids, located
from registry.links import Link
from registry.lookup import locate
from registry.schema import ASSOCIATION, DOCUMENT, FOLDER, SUBMISSION_SET
from registry.search import CURRENT_FOLDERS, DOCUMENTS, SUBMISSION_SETS


def get_documents(asked: Asked) -> Sequence[Hit]:
    """Documents by their ids, Stable and On-Demand."""
    return asked.at(DOCUMENTS, asked.named(DOCUMENT))


def get_folders(asked: Asked) -> Sequence[Hit]:
    """Folders by their ids."""
    return asked.at(CURRENT_FOLDERS, asked.named(FOLDER))


def get_associations(asked: Asked) -> Sequence[Hit]:
    """The associations that touch some objects."""
    places = locate(asked.connection, asked.decoded.texts("uuid"))
    return association_hits(asked.links.touching(places.values()))


def get_documents_and_associations(asked: Asked) -> Sequence[Hit]:
    """Documents by their ids, and the associations that touch them."""
    documents = get_documents(asked)
    touching = asked.links.touching(located(documents, DOCUMENT))
    return [*documents, *association_hits(touching)]


def get_submission_sets(asked: Asked) -> Sequence[Hit]:
    """The sets that hold some documents or folders, and what ties them together."""
    members = asked.located(asked.decoded.texts("uuid"), DOCUMENT, FOLDER)
    holding = asked.bounded(asked.links.holders_of(members))
    sets = asked.at(SUBMISSION_SETS, asked.located(_sources(holding), SUBMISSION_SET))
    shown = entry_uuids(sets)
    return [*sets, *association_hits(link for link in holding if link.source in shown)]


def get_submission_set_and_contents(asked: Asked) -> Sequence[Hit]:
    """A set, its members that pass the filters, and what links them to each other."""
    named = asked.named(SUBMISSION_SET)
    sets = asked.at(SUBMISSION_SETS, named)
    memberships = asked.bounded(asked.links.members_of_sets(named))
    members = locate(asked.connection, _targets(memberships))
    documents = asked.at(DOCUMENTS, of_kind(members, DOCUMENT))
    folders = asked.at(CURRENT_FOLDERS, of_kind(members, FOLDER))
    shown = entry_uuids((*sets, *documents, *folders))
    between = _between(asked.links.by_id(of_kind(members, ASSOCIATION)), shown)
    shown |= {link.entry_uuid for link in between}
    listed = [link for link in memberships if link.target in shown]
    return [*sets, *documents, *folders, *association_hits((*listed, *between))]


def get_folder_and_contents(asked: Asked) -> Sequence[Hit]:
    """A folder, its documents that pass the filters, and the memberships of these."""
    folders = get_folders(asked)
    memberships = asked.bounded(asked.links.members_of_folders(located(folders, FOLDER)))
    documents = asked.at(DOCUMENTS, asked.located(_targets(memberships), DOCUMENT))
    between = _between(memberships, entry_uuids((*folders, *documents)))
    return [*folders, *documents, *association_hits(between)]


def get_folders_for_document(asked: Asked) -> Sequence[Hit]:
    """The folders that hold a document."""
    holding = asked.bounded(asked.links.holders_of(located(get_documents(asked), DOCUMENT)))
    return asked.at(CURRENT_FOLDERS, asked.located(_sources(holding), FOLDER))


def get_related_documents(asked: Asked) -> Sequence[Hit]:
    """A document and those associated with it in some ways; nothing if there are none."""
    types = asked.decoded.texts("association_types")
    related = asked.bounded(asked.links.touching(asked.named(DOCUMENT), types))
    ends = {*_sources(related), *_targets(related)}
    documents = asked.at(DOCUMENTS, asked.located(ends, DOCUMENT))
    between = _between(related, entry_uuids(documents))
    joined = {*_sources(between), *_targets(between)}
    shown = [hit for hit in documents if hit[ENTRY_UUID] in joined]
    return [*shown, *association_hits(between)]


def _sources(links: Iterable[Link]) -> list[str]:
    return [link.source for link in links]


def _targets(links: Iterable[Link]) -> list[str]:
    return [link.target for link in links]


def _between(links: Iterable[Link], shown: Collection[str]) -> list[Link]:
    """Those of ``links`` that have both ends among the objects shown."""
    return [link for link in links if link.source in shown and link.target in shown]
