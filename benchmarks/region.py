"""A region's registry: patients of every size, their submissions as text, loaded in bulk.

Most patients have a few documents and few have thousands (a Pareto distribution); some have
exactly ten or exactly two hundred objects, so that answers can be counted; one has so many that
they make a large answer. Submissions hold one to five documents, 2.3 in the mean, and come in
no order of patients, as they came over the years.

A submission is cast from one of some hundreds that were made by ``benchmarks.material``: ids,
patient, hash and reference are new each time, everything else repeats. The loader is given
nothing but the text, and judges it as ITI-42 does (``registry.bulk``).
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest

from lxml import etree
from sqlalchemy import insert

from benchmarks.figures import WrongAnswer
from benchmarks.material import Material
from benchmarks.place import Place
from metadata.datatypes import CXi
from metadata.model import Submission
from registry import schema
from registry.bulk import Loader, Source, helpers
from storage.database import Database
from transactions.iti_42 import SubmitObjectsRequest

# Documents of those who are asked for, and objects of those who are asked for everything:
# 65 submissions of one document (3 objects each) and one of two (5).
HITS = 10
OBJECTS = 200
_OF_200 = (1,) * 65 + (2,)

# A fifth of all entries belong to patients with ten, a hundredth to those with 200 objects.
_ASKED_SHARE, _EVERYTHING_SHARE = 0.2, 0.01
# A twentieth to patients with 5,000, where there are entries enough for one of them.
_HEAVY, _HEAVY_SHARE = 5_000, 0.05
# The others: twice Pareto's alpha of 1.2, cut at 2,000; the median has two, the mean eight.
_ALPHA, _TIMES, _MOST = 1.2, 2, 2_000

# Documents of a submission, and how many of a hundred submissions have so many.
_SIZES, _WEIGHTS = (1, 2, 3, 4, 5), (40, 25, 15, 10, 10)
# Of the patient with the large answer: he would be in half of all submissions otherwise.
_LARGE_SIZE = 10

# Moulds of each size: enough that codes and authors vary as a region's do.
_MOULDS = 100
# Patients of each kind of question that are remembered: a run asks some thousand times.
_REMEMBERED = 500

_STAND_IN = 999_999_999


@dataclass(frozen=True, slots=True)
class Document:
    """What a question needs to know of a document."""

    unique_id: str
    reference: str


@dataclass(slots=True)
class Loading:
    """A finished load: what it took, whom to ask for what, and some who are not asked for."""

    entries: int = 0
    seconds: float = 0.0
    asked: dict[str, list[Document]] = field(default_factory=dict)
    everything: list[str] = field(default_factory=list)
    others: set[int] = field(default_factory=set)
    large: str = ""

    @property
    def rate(self) -> float:
        """Entries a second."""
        return self.entries / self.seconds


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient and the documents in each of the submissions."""

    number: int
    submissions: Sequence[int]


class Mould:
    """A message of which copies are made, each with ids of its own."""

    def __init__(self, material: Material, size: int, write: Callable[[Submission], bytes]) -> None:
        patient = material.patient(_STAND_IN)
        submission = gathered([material.submission(patient) for _ in range(size)])
        _set_lengths(submission)
        self._documents = size
        self._make = dict(_fresh(submission))
        pattern = b"|".join(map(re.escape, (*self._make, _number(_STAND_IN))))
        pieces = re.split(b"(" + pattern + b")", write(submission))
        self._pieces, self._found = pieces[::2], pieces[1::2]

    def cast(self, patient: int) -> tuple[bytes, list[Document]]:
        """A copy for the patient of this number, and its documents."""
        new = {token: make() for token, make in self._make.items()}
        new[_number(_STAND_IN)] = _number(patient)
        filled = [new[token] for token in self._found]
        text = b"".join(chain.from_iterable(zip_longest(self._pieces, filled, fillvalue=b"")))
        ids = list(new.values())
        documents = [
            Document(ids[at].decode(), ids[at + 1].decode())
            for at in range(0, 3 * self._documents, 3)
        ]
        return text, documents


def _set_lengths(submission: Submission) -> None:
    """Give what will be replaced the length of what takes its place."""
    for package in submission.submission_sets:
        package.unique_id = _oid().decode()
    for document in submission.documents:
        document.unique_id = _oid().decode()
        [reference] = document.reference_id_list
        number = _accession().decode()
        document.reference_id_list = [CXi.of(number, reference.type, reference.authority)]


def _fresh(submission: Submission) -> Iterator[tuple[bytes, Callable[[], bytes]]]:
    """The texts that are new in each copy, the three of each document first, and their makers.

    All that one maker makes is of one length, so every copy of a message is of one length too.
    """
    for document in submission.documents:
        [reference] = document.reference_id_list
        yield _encoded(document.unique_id), _oid
        yield reference.id.encode(), _accession
        yield _encoded(document.hash), _hash
    for package in submission.submission_sets:
        yield _encoded(package.unique_id), _oid
    for obj in submission.objects():
        yield obj.entry_uuid.encode(), _uuid


def _encoded(text: str | None) -> bytes:
    return (text or "").encode()


_draw = random.Random(20260101)


def _oid() -> bytes:
    return b"2.25.1%038d" % _draw.randrange(10**38)


def _accession() -> bytes:
    return b"%015d" % _draw.randrange(10**15)


def _hash() -> bytes:
    return b"%040x" % _draw.getrandbits(160)


def _uuid() -> bytes:
    digits = b"%032x" % _draw.getrandbits(128)
    parts = digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]
    return b"urn:uuid:" + b"-".join(parts)


def _number(patient: int) -> bytes:
    return b"%09d" % patient


def gathered(some: Sequence[Submission]) -> Submission:
    """The documents of all in the SubmissionSet of the first."""
    first = some[0]
    [package] = first.submission_sets
    links = [replace(link, source=package.entry_uuid) for one in some for link in one.associations]
    documents = [document for one in some for document in one.documents]
    return replace(first, documents=documents, associations=links)


def text_of(submission: Submission) -> bytes:
    """The submission as its request's text."""
    return etree.tostring(SubmitObjectsRequest.of(submission).element)


def patients(entries: int, large: int) -> list[Patient]:
    """Patients with ``entries`` documents in all, the first of them with ``large``."""
    draw = random.Random(entries)
    counts = [[_LARGE_SIZE] * (large // _LARGE_SIZE)]
    heavy = [_HEAVY] * int(entries * _HEAVY_SHARE / _HEAVY)
    counts += [_split(draw, count) for count in heavy]
    counts += [list(_OF_200)] * max(2, int(entries * _EVERYTHING_SHARE / (len(_OF_200) + 1)))
    counts += [_split(draw, HITS) for _ in range(int(entries * _ASKED_SHARE / HITS))]
    left = entries - sum(map(sum, counts))
    while left > 0:
        count = min(left, _MOST, int(_TIMES * draw.paretovariate(_ALPHA)))
        counts.append(_split(draw, count))
        left -= count
    return [Patient(number, sizes) for number, sizes in enumerate(counts, start=1)]


def _split(draw: random.Random, documents: int) -> list[int]:
    sizes = []
    while documents > 0:
        [size] = draw.choices(_SIZES, _WEIGHTS)
        sizes.append(min(size, documents))
        documents -= sizes[-1]
    return sizes


def load(database: Database, place: Place, entries: int, large: int) -> Loading:
    """Fill the empty registry with ``entries``, timed. Raises WrongAnswer if one was refused."""
    everyone = patients(entries, large)
    _announce(database, place, everyone)
    done = Loading(large=str(place.material.patient(1)))
    texts = _texts(place, everyone, done)
    with helpers() as pool:
        started = time.perf_counter()
        for report in Loader(database, place.domain, pool).load(texts):
            if report.told:
                raise WrongAnswer(f"not registered: {report.told[0]}")
            done.entries += report.entries
        done.seconds = time.perf_counter() - started
    if done.entries != entries:
        raise WrongAnswer(f"{done.entries} entries were loaded of {entries}")
    return done


def _announce(database: Database, place: Place, everyone: Sequence[Patient]) -> None:
    ids = [str(place.material.patient(one.number)) for one in everyone]
    for start in range(0, len(ids), 10_000):  # as many parameters as SQLAlchemy sends at a time
        rows = [{"id": one, "survivor": one} for one in ids[start : start + 10_000]]
        database.write(lambda c: c.execute(insert(schema.patient), rows).close())  # noqa: B023


def moulds(
    place: Place, write: Callable[[Submission], bytes] = text_of, sizes: Sequence[int] = _SIZES
) -> dict[int, list[Mould]]:
    """Moulds of every size; of a message that ``write`` makes."""
    return {size: [Mould(place.material, size, write) for _ in range(_MOULDS)] for size in sizes}


def _texts(place: Place, everyone: Sequence[Patient], done: Loading) -> Iterator[Source]:
    """All submissions in no order of patients; ``done`` is told whom to ask for what."""
    draw = random.Random(len(everyone))
    made = moulds(place, sizes=(*_SIZES, _LARGE_SIZE))
    kinds = {one.number: _kind(one) for one in everyone}
    order = [(one.number, size) for one in everyone for size in one.submissions]
    draw.shuffle(order)
    for number, size in order:
        text, documents = draw.choice(made[size]).cast(number)
        if kinds[number]:
            _remember(done, str(place.material.patient(number)), kinds[number], documents)
        elif len(done.others) < _REMEMBERED:
            done.others.add(number)
        yield Source(str(number), text)


def _kind(one: Patient) -> int:
    """What questions a patient is fit for: ``HITS``, ``OBJECTS`` or none."""
    if tuple(one.submissions) == _OF_200:
        return OBJECTS
    return HITS if sum(one.submissions) == HITS else 0


def _remember(done: Loading, patient: str, kind: int, documents: list[Document]) -> None:
    if kind == OBJECTS and len(done.everything) < _REMEMBERED and patient not in done.everything:
        done.everything.append(patient)
    elif kind != OBJECTS and (patient in done.asked or len(done.asked) < _REMEMBERED):
        done.asked.setdefault(patient, []).extend(documents)
