"""The registry does what the standard says, whatever is asked of it and in whatever order.

``KOSMOS_MODEL_EXAMPLES`` is how many histories are played on each engine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from metadata import identifiers as xds
from metadata.model import Submission
from soap.client import SoapClient
from storage.database import Database
from tests.model.machine import Histories
from tests.model.over_soap import Registry
from tests.node.conftest import Node
from tests.registry.invariants import broken

# A history of 25 steps is some 200 calls: 0.6 s on an idle machine with 2 cores, several times that
# on a busy one. Both engines together shall take less than a minute.
EXAMPLES = int(os.environ.get("KOSMOS_MODEL_EXAMPLES", "12"))

AUTHORITY = "1.2.250.1.213.1.4.10"
CONFIG = """\
[node]
home_community_id = "1.2.3.4"
port_base = 0

[affinity_domain]
assigning_authority = "{authority}"
codes = "codes.toml"

[registry]
administration = true
database = "{database}"

[tls]
enabled = false
"""


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    """The registry of a node that runs, on each engine; any code is allowed."""
    config = tmp_path / "kosmos.toml"
    config.write_text(CONFIG.format(authority=AUTHORITY, database=database_url))
    config.with_name("codes.toml").write_text("")
    node = Node(config)
    client = SoapClient(timeout=30)
    yield Registry(node.endpoints["registry"], client)
    client.close()
    assert node.stop() == 0, node.log.read_text()


def play(registry: Registry, **how: Any) -> None:
    """Play histories on a registry until one goes wrong."""

    class OverThisNode(Histories):
        """The histories, played on this node."""

    OverThisNode.registry, OverThisNode.authority = registry, AUTHORITY
    run_state_machine_as_test(
        OverThisNode,
        settings=settings(
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            **how,
        ),
    )


@pytest.mark.timeout(0)
def test_every_history_leaves_what_the_standard_says(registry: Registry, database_url: str) -> None:
    play(registry, max_examples=EXAMPLES)
    with Database.open(database_url, read_only=True) as database, database.read() as connection:
        assert broken(connection) == []


class Forgetful(Registry):
    """A registry to which no document is related."""

    def register(self, message: Submission) -> set[str]:
        related = xds.DOCUMENT_RELATIONSHIPS
        links = [one for one in message.associations if one.association_type not in related]
        return super().register(replace(message, associations=links))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_registry_that_forgets_relationships_is_found_out(registry: Registry) -> None:
    with pytest.raises(AssertionError):
        play(Forgetful(registry.url, registry.client), max_examples=100, phases=[Phase.generate])
