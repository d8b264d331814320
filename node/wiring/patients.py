"""The patients of the node's registry, opened for an operator's command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from node.config import Settings
from node.migrate import open_database
from node.wiring.common import affinity_domain
from registry.administration import Administration
from registry.patients import Patients


class PatientAdministration(NamedTuple):
    """What a command may do: what the feeds can, and what they cannot."""

    patients: Patients
    administration: Administration


@contextmanager
def open_patients(settings: Settings) -> Iterator[PatientAdministration]:
    """The patients of the registry's database; on an embedded one this needs the node stopped.

    Raises ConfigError and StorageError.
    """
    with open_database(settings.registry, "registry") as database:
        patients = Patients(database, affinity_domain(settings))
        yield PatientAdministration(patients, Administration(database))
