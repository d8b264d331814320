"""What must be true of the tables of every registry, whatever was done to it, and by how many.

``broken`` reads every row and says what is not as it must be; ``replaced_twice`` and
``of_two_contents`` hold for registries in which no administrator restored or changed what a
replacement or a uniqueId rests on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from metadata import ebrim
from metadata import identifiers as xds
from metadata.model import AnyObject, Association, DocumentEntry, Folder, SubmissionSet
from registry import rows, schema

_TABLES = {
    schema.DOCUMENT: schema.document_entry,
    schema.FOLDER: schema.folder,
    schema.SUBMISSION_SET: schema.submission_set,
    schema.ASSOCIATION: schema.association,
}


class Tables:
    """Every row of a registry, and its objects as they are answered."""

    def __init__(self, connection: Connection) -> None:
        def read(table: Any) -> list[Any]:
            return list(connection.execute(select(table)))

        self.places = {row.entry_uuid: row for row in read(schema.object_)}
        self.survivors = {row.id: row.survivor for row in read(schema.patient)}
        self.merges = {row.subsumed: row.surviving for row in read(schema.patient_merge)}
        self.identities = {row.unique_id: row for row in read(schema.identity)}
        self.namesakes = read(schema.namesake)
        self.reach = {(row.entry_uuid, row.patient) for row in read(schema.reach)}
        self.revisions = read(schema.revision)
        self.values = read(schema.attribute_value)
        self.kept = [(kind, row) for kind, table in _TABLES.items() for row in read(table)]
        self.rows = {row.entry_uuid: row for _, row in self.kept}
        self.objects: dict[str, AnyObject] = {
            row.entry_uuid: ebrim.read_fragment(row.ebrim) for _, row in self.kept
        }

    def patient(self, entry_uuid: str) -> str:
        """Who stands today for the patient of an object."""
        return str(self.survivors[self.places[entry_uuid].patient])

    def is_approved(self, entry_uuid: str) -> bool:
        return bool(self.rows[entry_uuid].status == schema.APPROVED)

    def links(self) -> list[Association]:
        return [obj for obj in self.objects.values() if isinstance(obj, Association)]

    def described(self) -> list[DocumentEntry | SubmissionSet | Folder]:
        return [obj for obj in self.objects.values() if not isinstance(obj, Association)]

    def histories(self) -> dict[str, list[DocumentEntry | Folder]]:
        """The versions of each logicalID, the latest last."""
        found: dict[str, list[DocumentEntry | Folder]] = defaultdict(list)
        for obj in self.objects.values():
            if isinstance(obj, DocumentEntry | Folder):
                found[obj.logical_id or ""].append(obj)
        return {
            name: sorted(versions, key=lambda one: int(one.version or ""))
            for name, versions in found.items()
        }

    def latest(self) -> set[str]:
        """The latest version of everything that has versions."""
        return {versions[-1].entry_uuid for versions in self.histories().values()}


def broken(connection: Connection) -> list[str]:
    """What is not as it must be."""
    tables = Tables(connection)
    checks = (_places, _fragments, _links, _versions, _unique_ids, _values, _patients)
    return [problem for check in checks for problem in check(tables)]


def _places(tables: Tables) -> Iterator[str]:
    """Everything is where the table of objects says, and nothing is anywhere else."""
    found = [(row.entry_uuid, kind, row.patient) for kind, row in tables.kept]
    said = [(row.entry_uuid, row.kind, row.patient) for row in tables.places.values()]
    for one in (Counter(found) - Counter(said)) + (Counter(said) - Counter(found)):
        yield f"{one} is not at its place"
    for name, table in (
        ("attribute_value", tables.values),
        ("identity", tables.identities.values()),
        ("namesake", tables.namesakes),
        ("revision", tables.revisions),
    ):
        for row in table:
            place = tables.places.get(row.entry_uuid)
            if place is None or place.patient != row.patient:
                yield f"a row of {name} is of {row.entry_uuid}, which is not there"
    for entry_uuid, _ in tables.reach:
        if entry_uuid not in tables.places:
            yield f"a row of reach is of {entry_uuid}, which is not there"


def _fragments(tables: Tables) -> Iterator[str]:
    """What is answered says what the columns say."""
    for entry_uuid, row in tables.rows.items():
        obj = tables.objects[entry_uuid]
        if rows.STATUSES[obj.availability_status or ""] != row.status:
            yield f"{entry_uuid} is {row.status}, and answered as {obj.availability_status}"
        if isinstance(obj, Association):
            said = (obj.association_type, obj.source, obj.target)
            if said != (row.type, row.source, row.target):
                yield f"{entry_uuid} is answered with another type or other ends"
        time = obj.last_update_time if isinstance(obj, Folder) else None
        if time is not None and time.padded() != row.last_update_time:
            yield f"{entry_uuid} is answered with another lastUpdateTime"


def _links(tables: Tables) -> Iterator[str]:
    """No association dangles, all must be held that must, and every end knows who reaches it."""
    sets = {one.entry_uuid for one in tables.described() if isinstance(one, SubmissionSet)}
    held = {link.target for link in tables.links() if link.source in sets}
    for link in tables.links():
        patient = tables.places[link.entry_uuid].patient
        for end in (link.source, link.target):
            place = tables.places.get(end)
            if place is None:
                yield f"{link.entry_uuid} has the end {end}, which is not there"
            elif place.patient != patient and (end, patient) not in tables.reach:
                yield f"{end} does not know that {link.entry_uuid} touches it"
        filed = link.association_type == xds.HAS_MEMBER and link.source not in sets
        if filed and not {link.entry_uuid, link.source} <= held:
            yield f"the membership {link.entry_uuid} is in no SubmissionSet, or its Folder"
    for obj in tables.described():
        if obj.entry_uuid not in sets | held:
            yield f"no SubmissionSet holds {obj.entry_uuid}"


def _versions(tables: Tables) -> Iterator[str]:
    """One version at most is Approved, the latest; that alone is shown, unless it is Offline."""
    recorded: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in tables.revisions:
        recorded[row.logical_id].append((row.version, row.entry_uuid))
    for name, versions in tables.histories().items():
        numbers = [(int(one.version or ""), one.entry_uuid) for one in versions]
        if sorted(recorded[name]) != numbers and (recorded[name] or len(numbers) > 1):
            yield f"{name} has the versions {numbers}, recorded are {sorted(recorded[name])}"
        if len({number for number, _ in numbers}) < len(numbers):
            yield f"{name} has two versions of one number"
        for one in versions:
            latest = one is versions[-1]
            if tables.is_approved(one.entry_uuid) and not latest:
                yield f"{one.entry_uuid} is Approved and not the latest version"
            offline = isinstance(one, DocumentEntry) and one.document_availability == xds.OFFLINE
            level = schema.SHOWN if latest and not offline else schema.HIDDEN
            if tables.rows[one.entry_uuid].level != level:
                yield f"{one.entry_uuid} is not shown at level {level}"


def _unique_ids(tables: Tables) -> Iterator[str]:
    """A uniqueId stands for its objects, and for the content of a latest version of them."""
    users: dict[str, list[Any]] = defaultdict(list)
    for obj in tables.described():
        users[obj.unique_id or ""].append(obj)
    listed: dict[str, list[str]] = defaultdict(list)
    for row in (*tables.identities.values(), *tables.namesakes):
        listed[row.unique_id].append(row.entry_uuid)
    latest = tables.latest()
    for unique_id in users.keys() | listed.keys():
        objects = users[unique_id]
        if sorted(listed[unique_id]) != sorted(obj.entry_uuid for obj in objects):
            yield f"{unique_id} is not listed as that of its objects"
            continue
        identity = tables.identities.get(unique_id)
        if identity is None or {rows.kind_of(obj) for obj in objects} != {identity.kind}:
            yield f"{unique_id} stands for nothing, or for several kinds of things"
            continue
        documents = [obj for obj in objects if isinstance(obj, DocumentEntry)]
        contents = {_content(obj) for obj in documents if obj.entry_uuid in latest}
        if documents and (identity.hash, identity.size) not in contents:
            yield f"{unique_id} stands for a content that none of its documents has"


def _content(document: DocumentEntry) -> tuple[str | None, int | None]:
    return rows.content_hash(document), rows.content_size(document)


def _values(tables: Tables) -> Iterator[str]:
    """Queries find every object by its attributes, as they are answered."""
    found = Counter((row.entry_uuid, row.attribute, row.value) for row in tables.values)
    said = Counter(
        (obj.entry_uuid, row["attribute"], row["value"])
        for obj in tables.described()
        for row in rows.value_rows(obj, tables.places[obj.entry_uuid].patient)
    )
    for one in (found - said) + (said - found):
        yield f"{one} is kept and not answered, or the other way round"


def _patients(tables: Tables) -> Iterator[str]:
    """Merges lead to who is active; Approved links join objects of one patient."""
    for one, survivor in tables.survivors.items():
        end, steps = one, 0
        while end in tables.merges and steps <= len(tables.merges):
            end, steps = tables.merges[end], steps + 1
        if survivor != end:
            yield f"a patient is resolved to {survivor}, its merges lead to {end}"
    for link in tables.links():
        ends = (link.source, link.target)
        joined = all(isinstance(tables.objects.get(end), DocumentEntry | Folder) for end in ends)
        in_force = joined and all(map(tables.is_approved, (link.entry_uuid, *ends)))
        if in_force and tables.patient(link.source) != tables.patient(link.target):
            yield f"{link.entry_uuid} joins objects of two patients"


def replaced_twice(connection: Connection) -> list[str]:
    """The documents of which two replacements are Approved."""
    tables = Tables(connection)
    replacing: dict[str, set[str | None]] = defaultdict(set)
    for link in tables.links():
        source = tables.objects[link.source]
        in_force = all(map(tables.is_approved, (link.entry_uuid, link.source)))
        if link.association_type in xds.REPLACEMENTS and in_force:
            assert isinstance(source, DocumentEntry)
            replacing[link.target].add(source.logical_id)
    return [target for target, sources in replacing.items() if len(sources) > 1]


def of_two_contents(connection: Connection) -> list[str]:
    """The uniqueIds of documents that differ in hash or size."""
    contents: dict[str, set[Any]] = defaultdict(set)
    for obj in Tables(connection).described():
        if isinstance(obj, DocumentEntry):
            contents[obj.unique_id or ""].add(_content(obj))
    return [unique_id for unique_id, found in contents.items() if len(found) > 1]
