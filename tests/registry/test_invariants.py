"""Many at once, doing anything to few patients and documents: the tables stay whole."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from metadata import identifiers as xds
from metadata.datatypes import new_uuid_urn
from tests.registry.invariants import broken, of_two_contents, replaced_twice
from tests.registry.update.conftest import Change
from transactions.iti_62 import RemoveObjectsRequest
from transactions.stored_query import get_documents, get_folders

THREADS = 8
SECONDS = float(os.environ.get("KOSMOS_INVARIANTS_SECONDS", "4"))
PATIENCE_SECONDS = 60  # for a machine with much else to do
PATIENTS = [f"crowd-{number}" for number in range(6)]
# Each done by one of the threads: half of the patients are there in the end.
MERGES = list(zip(PATIENTS[::2], PATIENTS[1::2], strict=True))

# How often each thing is done: mostly what changes something that others change too.
ACTIONS = {
    "submit": 4,
    "share": 2,
    "file": 3,
    "replace": 4,
    "append": 3,
    "update": 5,
    "move": 1,
    "deprecate": 2,
    "remove": 1,
}


class Crowd:
    """What the threads know in common: objects with their patients, what came of each action."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.documents: list[tuple[str, str]] = []
        self.folders: list[tuple[str, str]] = []
        self.outcomes: Counter[tuple[str, ...]] = Counter()
        for patient in PATIENTS:
            house.feed("A01", patient)
            self.submit(patient, random.Random(0))

    def play(self, seed: int) -> None:
        """Do random things until the time is over and each has been done once."""
        chance = random.Random(seed)
        end = time.monotonic() + SECONDS
        merge_at = end - SECONDS * chance.uniform(0.2, 0.8)
        to_merge = MERGES[seed : seed + 1]
        names, weights = zip(*ACTIONS.items(), strict=True)
        while (now := time.monotonic()) < end or (self.undone() and now < end + PATIENCE_SECONDS):
            if to_merge and now > merge_at:
                survivor, subsumed = to_merge.pop()
                assert self.house.feed("A40", survivor, subsumed=subsumed).ack_code == "AA"
            [action] = chance.choices(names, weights)
            self.outcomes[action, *getattr(self, action)(chance.choice(PATIENTS), chance)] += 1

    def undone(self) -> set[str]:
        """What nobody has had a success with yet."""
        return ACTIONS.keys() - {action for action, *codes in list(self.outcomes) if not codes}

    # --- Registrations -----------------------------------------------------------------------

    def submit(self, patient: str, chance: random.Random) -> list[str]:
        draft = self.house.draft(patient)
        document, folder = draft.document(new_uuid_urn()), draft.folder(new_uuid_urn())
        draft.file(document.entry_uuid, folder.entry_uuid)
        return self._register(patient, draft)

    def share(self, patient: str, chance: random.Random) -> list[str]:
        """A further entry for a document that others register at the same moment."""
        draft = self.house.draft(patient)
        number = chance.randrange(20)
        content = {"hash": f"{number % 19:040x}", "size": "1"}
        draft.document(new_uuid_urn(), unique_id=f"1.2.3.{number % 10}", **content)
        return self._register(patient, draft)

    def file(self, patient: str, chance: random.Random) -> list[str]:
        patient, folder = self._one(self.folders, chance)
        draft = self.house.draft(patient)
        for _ in range(2):
            draft.file(self._one(self.documents, chance, patient)[1], folder)
        return self._register(patient, draft)

    def replace(self, patient: str, chance: random.Random) -> list[str]:
        return self._relate(xds.RPLC, chance)

    def append(self, patient: str, chance: random.Random) -> list[str]:
        return self._relate(xds.APND, chance)

    def _relate(self, kind: str, chance: random.Random) -> list[str]:
        patient, target = self._one(self.documents, chance)
        draft = self.house.draft(patient)
        draft.link(kind, draft.document(new_uuid_urn()).entry_uuid, target)
        return self._register(patient, draft)

    def _register(self, patient: str, draft: Any) -> list[str]:
        response = self.house.submit(draft)
        if response.status == xds.SUCCESS:
            self.documents += [(patient, one.entry_uuid) for one in draft.submission.documents]
            self.folders += [(patient, one.entry_uuid) for one in draft.submission.folders]
        return [error.code for error in response.errors]

    def _one(
        self, known: list[tuple[str, str]], chance: random.Random, patient: str = ""
    ) -> tuple[str, str]:
        """One of the latest, so that others choose it too."""
        near = [one for one in known[-60:] if one[0] == patient] or known
        return chance.choice(near[-12:])

    # --- Administrators ----------------------------------------------------------------------

    def update(self, patient: str, chance: random.Random) -> list[str]:
        patient, _ = self._one(self.documents, chance)
        return self._update(patient, patient, chance)

    def move(self, patient: str, chance: random.Random) -> list[str]:
        """To another patient, which leaves all links behind."""
        return self._update(self._one(self.documents, chance)[0], patient, chance)

    def _update(self, patient: str, to: str, chance: random.Random) -> list[str]:
        change = Change(self.house.draft(to))
        propagation = None if patient == to else xds.DO_NOT_PROPAGATE
        for known, ask in ((self.documents, get_documents), (self.folders, get_folders)):
            if chance.random() < 0.7:
                logical_id = self._one(known, chance, patient)[1]  # of the first version
                response = self.house.registry.query(ask(logical_id=[logical_id]))
                # Refused where the versions are of several patients.
                found = list(response.objects().objects())
                if found:
                    latest = max(found, key=lambda one: int(one.version))
                    change.version(latest, propagation=propagation)
        return self._change(change)

    def deprecate(self, patient: str, chance: random.Random) -> list[str]:
        patient, target = self._one(chance.choice([self.documents, self.folders]), chance)
        change = Change(self.house.draft(patient))
        change.deprecate(target)
        return self._change(change)

    def _change(self, change: Change) -> list[str]:
        response = self.house.registry.update(change.draft.request())
        return [error.code for error in response.errors]

    def remove(self, patient: str, chance: random.Random) -> list[str]:
        """A document with what touches it: refused if more has come meanwhile."""
        _, target = self._one(self.documents, chance)
        names = [target, *(link.entry_uuid for link in self.house.links(target))]
        names += [link.entry_uuid for link in self.house.links(*names[1:])] if names[1:] else []
        response = self.house.registry.remove(RemoveObjectsRequest(names))
        return [error.code for error in response.errors]


def test_whatever_many_do_at_once_the_tables_stay_whole(house: Any) -> None:
    crowd = Crowd(house)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(crowd.play, range(THREADS)))
    assert not crowd.undone(), crowd.outcomes
    with house.database.read() as connection:
        assert broken(connection) == []
        assert replaced_twice(connection) == []
        assert of_two_contents(connection) == []
