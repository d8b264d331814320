"""What the registry says of its documents, page by page."""

from __future__ import annotations

from typing import Any

from metadata.datatypes import OID
from registry import inventory

HERE, ELSEWHERE = OID("1.2.3.4.5"), OID("1.2.3.4.6")


def test_every_document_is_listed_once_and_nothing_else(house: Any) -> None:
    documents = [house.registered() for _ in range(5)]
    draft = house.draft()
    draft.folder()
    house.accept(draft)
    listed = [one for page in house.registry.inventory(HERE).pages() for one in page]
    assert listed == sorted(document.unique_id for document in documents)


def test_a_document_is_expected_where_some_entry_of_it_says_so(house: Any) -> None:
    ours = house.registered(repository_unique_id=HERE)
    other = house.registered(repository_unique_id=ELSEWHERE)
    draft = house.draft()
    draft.document(
        repository_unique_id=HERE, unique_id=other.unique_id, hash=other.hash, size=other.size
    )
    house.accept(draft)
    third = house.registered(repository_unique_id=ELSEWHERE)
    ids = {one.unique_id for one in (ours, other, third)}
    entries = inventory.Inventory(house.database, HERE)
    assert entries.expected_here(ids) == {ours.unique_id, other.unique_id}
    assert entries.known([*ids, "9.9"]) == ids
