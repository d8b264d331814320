"""One history, played on a registry and on its model at once; after each step both are compared.

A message is made in labels. Whether a new object is sent with a uuid of the sender's choice or a
symbolic id is part of the history; what the registry called it is learnt from its answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from itertools import count
from string import ascii_lowercase as LETTERS
from string import digits
from typing import Any

from metadata import identifiers as xds
from metadata.datatypes import CX, DTM, new_oid, new_uuid_urn
from metadata.model import AnyObject, Association, Folder, Submission
from tests.model import registering, removing, updating
from tests.model.asking import STATUSES, TYPES, Eye, answer_of
from tests.model.faults import LOST
from tests.model.messages import Draft, named, with_ids
from tests.model.over_soap import Registry
from tests.model.world import World
from transactions.stored_query import get_all

_PREFIX = new_oid()[-12:]
_plays = count(1)

PATIENTS = ("P1", "P2", "P3")
NOBODY = "P0"  # never announced

EVERYTHING: dict[str, Any] = {
    "document_status": STATUSES,
    "submission_set_status": STATUSES,
    "folder_status": STATUSES,
    "type": TYPES,
}


@dataclass
class Moment:
    """When a step was done, in seconds of UTC."""

    start: str
    end: str


class Play:
    """A registry with patients of its own, and the model of what it holds of them."""

    def __init__(self, registry: Registry, authority: str) -> None:
        self.registry = registry
        self.world = World()
        self.ids: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.moments: list[Moment] = []
        self._numbers: Counter[str] = Counter()
        self._prefix = f"{_PREFIX}-{next(_plays)}"
        self.patients = {
            name: CX.of(f"{self._prefix}-{name}", authority) for name in (*PATIENTS, NOBODY)
        }
        for name in PATIENTS:
            self.world.patients.add(self.patients[name])
            assert registry.announce(self.patients[name])

    # --- Messages ----------------------------------------------------------------------------

    def draft(self, patient: str) -> Draft:
        """A message for a patient."""
        return Draft(self.patients[patient], self.label, new_oid)

    def label(self, kind: str) -> str:
        """A fresh label: d7 is the seventh document that anybody tried to register."""
        self._numbers[kind] += 1
        return f"{kind}{self._numbers[kind]}"

    def known(self, *kinds: str) -> list[str]:
        """The labels of what was registered at some time, the latest first.

        In an order of their own: that of the answers is not the same at each run.
        """
        found = [(int(label.lstrip(LETTERS)), label) for label in self.ids]
        return [label for _, label in sorted(found)[::-1] if label.rstrip(digits) in kinds]

    def is_active(self, name: str) -> bool:
        """Whether a patient may be submitted for."""
        return self.world.is_active(self.patients[name])

    def is_of(self, label: str, name: str) -> bool:
        """Whether an object is registered and about a patient, or touches what is."""
        obj = self.world.objects.get(label)
        if isinstance(obj, Association):
            return self.is_of(obj.source, name)
        return obj is not None and self.world.patient_of(label) == self.patients[name]

    # --- Steps -------------------------------------------------------------------------------

    def register(
        self, message: Submission, symbolic: bool, object_type: str = xds.STABLE
    ) -> set[str]:
        """Register on both sides; the codes of both must agree."""

        def model(step: int) -> set[str]:
            codes = registering.faults(self.world, message, object_type)
            if not codes:
                registering.register(self.world, message, step)
            return codes

        on_demand = object_type == xds.ON_DEMAND
        real = self.registry.register_on_demand if on_demand else self.registry.register
        return self._both(message, symbolic, real, model)

    def update(self, message: Submission, symbolic: bool) -> set[str]:
        """Update on both sides."""

        def model(step: int) -> set[str]:
            return updating.update(self.world, message, step)

        return self._both(message, symbolic, self.registry.update, model)

    def remove(self, labels: set[str]) -> set[str]:
        """Remove on both sides."""
        expected = removing.remove(self.world, labels)
        ids = [self.ids.get(label) or new_uuid_urn() for label in sorted(labels)]
        codes = self.registry.remove(ids)
        assert codes == expected
        return codes

    def merge(self, surviving: str, subsumed: str) -> bool:
        """Merge on both sides."""
        pair = self.patients[surviving], self.patients[subsumed]
        expected = self.world.merge(*pair)
        assert self.registry.merge(*pair) == expected
        return expected

    def _both(
        self,
        message: Submission,
        symbolic: bool,
        real: Callable[[Submission], set[str]],
        model: Callable[[int], set[str]],
    ) -> set[str]:
        chosen = {LOST: new_uuid_urn()}
        if not symbolic:
            chosen |= {
                obj.entry_uuid: new_uuid_urn()
                for obj in message.objects()
                if obj.entry_uuid not in self.ids
            }
        expected = model(len(self.moments))
        start = DTM.of(datetime.now(UTC))
        codes = real(named(message, {**self.ids, **chosen}))
        self.moments.append(Moment(start, DTM.of(datetime.now(UTC))))
        assert codes == expected, f"registry {sorted(codes)}, model {sorted(expected)}"
        if not codes:
            for label, entry_uuid in chosen.items():
                if label != LOST:
                    self._learn(label, entry_uuid)
        return codes

    def _learn(self, label: str, entry_uuid: str) -> None:
        self.ids[label] = entry_uuid
        self.labels[entry_uuid] = label

    # --- Comparing ---------------------------------------------------------------------------

    def compare(self) -> None:
        """The whole visible state is the same, at both levels."""
        found = {name: self._look(name, 2) for name in PATIENTS}
        self._learn_new(found)
        for name, answer in found.items():
            self._agree(name, 2, answer)
            self._agree(name, 1, self._look(name, 1))

    def _look(self, patient: str, level: int) -> Submission | set[str]:
        request = get_all(self.patients[patient], metadata_level=level, **EVERYTHING)
        return self.registry.ask(request)

    def _agree(self, patient: str, level: int, answer: Submission | set[str]) -> None:
        eye = Eye(self.world, level)
        expected, codes = answer_of(lambda: eye.get_all(self.patients[patient]))
        if not isinstance(answer, Submission):
            assert answer == codes
            return
        assert not codes
        self.same(expected, answer, f"GetAll of {patient} at level {level}")

    def same(self, expected: set[str], answer: Submission, what: str) -> None:
        """An answer holds exactly the objects with these labels, each as the model has it."""
        actual: dict[str, AnyObject] = {}
        for obj in answer.objects():
            one = with_ids(obj, lambda entry_uuid: self.labels.get(entry_uuid, entry_uuid))
            assert one.entry_uuid not in actual, f"{what}: {one.entry_uuid} twice"
            actual[one.entry_uuid] = one
        faults = [f"{label} is missing" for label in sorted(expected - actual.keys())]
        faults += [f"{label} is too much" for label in sorted(actual.keys() - expected)]
        for label in sorted(expected & actual.keys()):
            faults += self._differences(label, actual[label])
        assert not faults, f"{what}: " + "; ".join(faults)

    def _differences(self, label: str, actual: AnyObject) -> Iterator[str]:
        obj: Any = self.world.objects[label]
        if not isinstance(obj, Association):
            obj = replace(obj, patient_id=self.world.patient_of(label))
        if isinstance(actual, Folder):
            moment = self.moments[self.world.touched[label]]
            if not moment.start <= (actual.last_update_time or "") <= moment.end:
                yield f"{label}.last_update_time {actual.last_update_time}, expected {moment}"
            actual = replace(actual, last_update_time=None)
        for field in fields(obj):
            one, other = getattr(actual, field.name), getattr(obj, field.name)
            if one != other:
                yield f"{label}.{field.name} is {one!r}, expected {other!r}"

    # --- Learning what the registry called things -------------------------------------------------

    def _learn_new(self, found: dict[str, Submission | set[str]]) -> None:
        answers = [answer for answer in found.values() if isinstance(answer, Submission)]
        objects = {obj.entry_uuid: obj for answer in answers for obj in answer.objects()}
        for entry_uuid, obj in objects.items():
            if entry_uuid not in self.labels and not isinstance(obj, Association):
                self._learn(str(obj.title), entry_uuid)
        # Memberships first, then what holds them.
        for _ in range(2):
            self._learn_links([obj for obj in objects.values() if isinstance(obj, Association)])

    def _learn_links(self, links: list[Association]) -> None:
        """Associations are known again by all that they say, and by the sets that hold them."""
        missing = [link for link in self.world.links() if link.entry_uuid not in self.ids]
        if not missing:
            return
        unknown: dict[Any, list[str]] = {}
        known = [with_ids(link, lambda one: self.labels.get(one, one)) for link in links]
        for one in known:
            assert isinstance(one, Association)
            unknown.setdefault(_says(one, known), []).append(one.entry_uuid)
        everything: list[Any] = list(self.world.links())
        for link in missing:
            alike = unknown.get(_says(link, everything), [])
            fresh = [one for one in alike if one not in self.ids]
            if fresh:
                alike.remove(fresh[0])
                self._learn(link.entry_uuid, fresh[0])


def _says(link: Association, links: list[Any]) -> tuple[Any, ...]:
    holders = sorted(
        one.source
        for one in links
        if one.target == link.entry_uuid and one.association_type == xds.HAS_MEMBER
    )
    return (
        link.association_type,
        link.source,
        link.target,
        link.availability_status,
        link.submission_set_status,
        link.previous_version,
        link.association_propagation,
        link.original_status,
        link.new_status,
        *holders,
    )
