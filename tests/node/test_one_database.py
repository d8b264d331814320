"""Registry, repository and imaging source may live in one database: nothing has a name twice."""

from __future__ import annotations

from itertools import combinations

import pytest
from sqlalchemy import MetaData

from imaging_source import schema as imaging_source
from registry import schema as registry
from registry.subscriptions import tables  # adds its own to those of the registry
from repository import schema as repository

ACTORS = {
    "registry": registry.METADATA,
    "repository": repository.METADATA,
    "imaging_source": imaging_source.METADATA,
}


def names(metadata: MetaData) -> set[str]:
    found = set(metadata.tables)
    for table in metadata.tables.values():
        found |= {str(index.name) for index in table.indexes}
    return found


@pytest.mark.parametrize(("one", "other"), list(combinations(ACTORS, 2)))
def test_no_table_or_index_of_two_actors_has_the_same_name(one: str, other: str) -> None:
    assert tables.notification.name in names(ACTORS["registry"])
    assert names(ACTORS[one]).isdisjoint(names(ACTORS[other]))
