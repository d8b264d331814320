"""A trail keeps every record, and tells of every change to it."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from node.migrate import script_location
from security.audit import trail as trail_module
from security.audit.chain import Verifier, genesis, link, make_key
from security.audit.heads import heads_in
from security.audit.schema import METADATA
from security.audit.search import UnreadableTrail, Wanted, find
from security.audit.trail import Trail
from security.audit.verification import Fault, Verified, missing, trails, verify
from storage.errors import DatabaseLocked, OutOfSpace
from storage.faultpoints import InjectedFault
from storage.migrations import metadata_differs
from storage.space import LowWaterMark
from tests.security.audit.conftest import NODE, START, Open, record

Tamper = Callable[[sqlite3.Connection], object]


def proved(folder: Path, name: str = "web") -> Verified:
    return verify(folder / f"{name}.db", NODE, Verifier.of(folder))


def filled(open_trail: Open, count: int = 5) -> None:
    """The trail ``web`` with records 1 to ``count``, its head signed."""
    trail = open_trail("web")
    trail.append([record(number) for number in range(1, count + 1)]).result()
    trail.close()


def tampered(folder: Path, tamper: Tamper) -> Verified:
    with closing(sqlite3.connect(folder / "web.db")) as connection, connection:
        tamper(connection)
    return proved(folder)


def test_what_was_recorded_is_there_in_its_order_and_proved(open_trail: Open, folder: Path) -> None:
    filled(open_trail)
    assert proved(folder) == Verified(f"{NODE}/web", 5)
    found = find(trails(folder), Wanted(), 10)
    assert [one.number for one in found] == [5, 4, 3, 2, 1]
    assert [one.record.message for one in reversed(found)] == [
        record(number).message for number in range(1, 6)
    ]


def begun_and_lost(open_trail: Open, *numbers: int) -> None:
    """The trail ``web`` of a process that died in an act with these records."""
    trail = open_trail("web")
    trail.begin([record(number) for number in numbers]).durable.result()
    trail.close()


def test_an_act_that_was_cut_off_is_recorded_when_the_trail_is_opened_next(
    open_trail: Open, folder: Path
) -> None:
    begun_and_lost(open_trail, 1, 2)
    assert proved(folder).records == 0
    begun_and_lost(open_trail, 3)
    open_trail("web").close()
    open_trail("web").close()  # and once only
    assert proved(folder) == Verified(f"{NODE}/web", 3)
    found = find(trails(folder), Wanted(patient="4711"), 10)
    assert [one.record.message for one in reversed(found)] == [
        record(number).message for number in (1, 2, 3)
    ]


def test_an_act_that_ended_is_recorded_as_it_ended(open_trail: Open, folder: Path) -> None:
    trail = open_trail("web")
    first, second = trail.begin([record(1)]), trail.begin([record(2)])
    trail.append([record(4)], second).result()
    trail.append([record(3)], first).result()
    trail.close()
    open_trail("web").close()
    found = find(trails(folder), Wanted(), 10)
    assert [one.record.message for one in reversed(found)] == [
        record(number).message for number in (3, 4)
    ]


def test_an_act_that_is_going_on_is_not_taken_for_an_older_one(
    open_trail: Open, folder: Path
) -> None:
    begun_and_lost(open_trail, 1)
    trail = open_trail("web")
    trail.begin([record(2)]).durable.result()
    trail.close()
    open_trail("web").close()
    assert proved(folder).records == 2


def test_a_trail_goes_on_where_it_ended(open_trail: Open, folder: Path) -> None:
    filled(open_trail, 2)
    trail = open_trail("web")
    trail.append([record(3)]).result()
    trail.close()
    assert proved(folder).records == 3


def test_records_of_many_threads_are_all_kept_in_one_chain(open_trail: Open, folder: Path) -> None:
    trail = open_trail("web")
    futures: list[Future[None]] = []

    def work(first: int) -> None:
        futures.extend(trail.append([record(first + number)]) for number in range(50))

    threads = [threading.Thread(target=work, args=(100 * one,)) for one in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for future in futures:
        future.result()
    assert proved(folder).records == 400


def test_what_is_acknowledged_is_in_the_file_before_the_trail_is_closed(
    open_trail: Open, folder: Path
) -> None:
    open_trail("web").append([record(1)]).result()
    assert proved(folder).records == 1


def test_who_goes_away_takes_no_record_back(open_trail: Open, folder: Path) -> None:
    trail = open_trail("web")
    future = trail.append([record(1)])
    assert not future.cancel()
    future.result()
    trail.append([record(2)]).result()
    assert proved(folder).records == 2


@pytest.mark.parametrize(
    ("tamper", "fault", "number"),
    [
        ("UPDATE audit_record SET message = message || x'20' WHERE number = 3", Fault.ALTERED, 3),
        ("DELETE FROM audit_record WHERE number = 3", Fault.REMOVED, 3),
        ("DELETE FROM audit_record WHERE number = 1", Fault.REMOVED, 1),
        ("DELETE FROM audit_record WHERE number > 3", Fault.CUT, 5),
        ("UPDATE audit_record SET chain = zeroblob(32) WHERE number = 4", Fault.ALTERED, 4),
        ("UPDATE audit_head SET signature = zeroblob(64)", Fault.UNSIGNED, 5),
    ],
)
def test_the_first_record_that_is_not_as_written_is_named(
    tamper: str, fault: Fault, number: int, open_trail: Open, folder: Path
) -> None:
    filled(open_trail)
    found = tampered(folder, lambda connection: connection.execute(tamper))
    assert (found.fault, found.number) == (fault, number)


def test_records_that_changed_places_are_told_from_altered_ones(
    open_trail: Open, folder: Path
) -> None:
    filled(open_trail)

    def swap(connection: sqlite3.Connection) -> None:
        rows = dict(connection.execute("SELECT number, message FROM audit_record").fetchall())
        for number, other in ((2, 4), (4, 2)):
            connection.execute(
                "UPDATE audit_record SET message = ? WHERE number = ?", (rows[other], number)
            )

    found = tampered(folder, swap)
    assert (found.fault, found.number) == (Fault.REORDERED, 2)


def test_records_that_changed_places_with_their_links_are_told_too(
    open_trail: Open, folder: Path
) -> None:
    filled(open_trail)

    def swap(connection: sqlite3.Connection) -> None:
        for number, other in ((2, -4), (4, 2), (-4, 4)):
            connection.execute(
                "UPDATE audit_record SET number = ? WHERE number = ?", (other, number)
            )

    found = tampered(folder, swap)
    assert (found.fault, found.number) == (Fault.REORDERED, 2)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    ("tamper", "fault", "number"),
    [
        (["DELETE FROM audit_record WHERE number > 3", "DELETE FROM audit_head"], Fault.CUT, 5),
        (["DELETE FROM audit_record", "DELETE FROM audit_head"], Fault.CUT, 5),
        ([], None, 0),
    ],
)
def test_what_is_cut_off_with_its_heads_is_missed_by_those_in_a_log_elsewhere(
    form: str,
    tamper: list[str],
    fault: Fault | None,
    number: int,
    open_trail: Open,
    folder: Path,
) -> None:
    filled(open_trail)
    kept = heads_in(logged(folder, form))[f"{NODE}/web"]
    assert tampered(folder, lambda one: [one.execute(sql) for sql in tamper]).fault is None
    found = verify(folder / "web.db", NODE, Verifier.of(folder), kept=kept)
    assert (found.fault, found.number) == (fault, number)


def test_another_history_signed_with_the_key_of_the_node_is_not_that_of_the_log(
    open_trail: Open, folder: Path
) -> None:
    filled(open_trail)
    kept = heads_in(logged(folder, "json"))[f"{NODE}/web"]
    (folder / "web.db").unlink()
    with open_trail("web") as trail:
        for number in range(9):
            trail.append([record(number, patient="another")]).result()
    assert proved(folder).fault is None
    found = verify(folder / "web.db", NODE, Verifier.of(folder), kept=kept)
    assert (found.fault, found.number) == (Fault.FORKED, 5)
    assert missing(f"{NODE}/gone", Verifier.of(folder), kept).fault is Fault.UNSIGNED
    assert missing(f"{NODE}/web", Verifier.of(folder), kept).fault is Fault.CUT


def logged(folder: Path, form: str) -> list[str]:
    """The heads of the trail as the log of the node has them, among other lines."""
    with closing(sqlite3.connect(folder / "web.db")) as connection:
        rows = connection.execute("SELECT number, chain, signature FROM audit_head").fetchall()
    lines = ["host kosmos[1]: something else", "head not signed code=AUDIT-HEAD error=DiskFull"]
    for number, chain, signature in rows:
        said = {
            "code": "AUDIT-HEAD",
            "source": f"{NODE}/web",
            "number": number,
            "chain": chain.hex(),
            "signature": signature.hex(),
        }
        plain = " ".join(f"{name}={value}" for name, value in said.items())
        lines.append(f"host kosmos[1]: {json.dumps(said) if form == 'json' else plain}")
    return lines


@pytest.mark.parametrize(
    "tamper",
    [
        "DELETE FROM audit_mention WHERE number = 4 AND kind = 'patient'",
        "UPDATE audit_record SET at = '2001-01-01T00:00:00.000+00:00' WHERE number = 4",
        "UPDATE audit_record SET type = 'ITI-43' WHERE number = 4",
    ],
)
def test_what_a_search_would_miss_is_told_where_that_is_asked(
    tamper: str, open_trail: Open, folder: Path
) -> None:
    filled(open_trail)
    whole = verify(folder / "web.db", NODE, Verifier.of(folder), index=True)
    assert whole == Verified(f"{NODE}/web", 5)
    assert tampered(folder, lambda connection: connection.execute(tamper)).fault is None
    found = verify(folder / "web.db", NODE, Verifier.of(folder), index=True)
    assert (found.fault, found.number) == (Fault.UNFINDABLE, 4)


@pytest.mark.parametrize("content", [b"", b"no database, and longer than a header of one" * 90])
def test_what_is_no_trail_any_more_is_named(content: bytes, folder: Path) -> None:
    (folder / "web.db").write_bytes(content)
    assert proved(folder) == Verified(f"{NODE}/web", 0, Fault.UNREADABLE)
    with pytest.raises(UnreadableTrail, match=r"web\.db"):
        find(trails(folder), Wanted(), 10)


def test_another_history_with_a_chain_of_its_own_is_not_the_signed_one(
    open_trail: Open, folder: Path
) -> None:
    filled(open_trail)

    def forge(connection: sqlite3.Connection) -> None:
        chain = genesis(f"{NODE}/web")
        for number in range(1, 6):
            text = record(number, patient="another").message
            chain = link(chain, number, text)
            connection.execute(
                "UPDATE audit_record SET message = ?, chain = ? WHERE number = ?",
                (text, chain, number),
            )

    found = tampered(folder, forge)
    assert (found.fault, found.number) == (Fault.FORKED, 5)


def test_a_head_signed_with_another_key_is_not_believed(open_trail: Open, folder: Path) -> None:
    filled(open_trail)
    make_key(folder / "other")
    found = verify(folder / "web.db", NODE, Verifier.of(folder / "other"))
    assert found.fault is Fault.UNSIGNED


def test_one_trail_does_not_pass_for_another(open_trail: Open, folder: Path) -> None:
    filled(open_trail)
    (folder / "web.db").rename(folder / "dicom.db")
    assert proved(folder, "dicom").fault is Fault.ALTERED


def test_records_are_found_by_patient_person_kind_and_time(open_trail: Open, folder: Path) -> None:
    first, second = open_trail("web"), open_trail("dicom")
    first.append([record(1), record(3, patient="0815")]).result()
    second.append([record(2, user="Dr Who")]).result()

    def numbers(wanted: Wanted) -> list[tuple[str, int]]:
        return [(one.trail, one.number) for one in find(trails(folder), wanted, 10)]

    assert numbers(Wanted()) == [("web", 2), ("dicom", 1), ("web", 1)]
    assert numbers(Wanted(patient="4711")) == [("dicom", 1), ("web", 1)]
    assert numbers(Wanted(user="Dr Who")) == [("dicom", 1)]
    assert numbers(Wanted(type="ITI-18", patient="0815")) == [("web", 2)]
    assert numbers(Wanted(type="ITI-43")) == []
    assert numbers(Wanted(since=record(2).when)) == [("web", 2), ("dicom", 1)]
    assert numbers(Wanted(until=record(2).when)) == [("web", 1)]
    assert [one.number for one in find(trails(folder), Wanted(), 1)] == [2]


def test_a_full_disk_is_told_before_anything_is_done(folder: Path) -> None:
    with (
        script_location("security") as scripts,
        Trail(folder, NODE, "web", LowWaterMark(1), scripts) as trail,
    ):
        trail._low_water = LowWaterMark(1 << 62)
        with pytest.raises(OutOfSpace):
            trail.ready()


def test_a_disk_that_fails_once_loses_one_record_and_not_the_trail(
    open_trail: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = open_trail("web")

    def fail(name: str) -> None:
        raise InjectedFault(name)

    with monkeypatch.context() as broken:
        broken.setattr(trail_module, "reach", fail)
        with pytest.raises(InjectedFault):
            trail.append([record(1)]).result(20)
    trail.append([record(2)]).result(20)
    trail.close()
    assert proved(folder) == Verified(f"{NODE}/web", 1)


def test_a_trail_has_one_writer(open_trail: Open) -> None:
    open_trail("web")
    with pytest.raises(DatabaseLocked):
        open_trail("web")


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    make_key(tmp_path)
    before = (tmp_path / "key.pem").read_bytes()
    make_key(tmp_path)
    assert (tmp_path / "key.pem").read_bytes() == before
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_migrations_and_tables_agree(open_trail: Open) -> None:
    assert metadata_differs(open_trail("web").database, METADATA) == []


def pruned(open_trail: Open, before: int, *targets: str) -> int:
    """How many records left the trail ``web`` that are from before that second."""
    trail = open_trail("web")
    gone = trail.prune(START + timedelta(seconds=before), targets)
    trail.close()
    return gone


def in_two_parts(open_trail: Open) -> None:
    """The trail ``web`` with signed heads at records 3 and 5."""
    filled(open_trail, 3)
    trail = open_trail("web")
    trail.append([record(4), record(5)]).result()
    trail.close()


def test_old_records_leave_up_to_a_signed_head_and_the_rest_is_proved(
    open_trail: Open, folder: Path
) -> None:
    in_two_parts(open_trail)
    assert pruned(open_trail, 3) == 0  # the head at 3 is not older
    assert pruned(open_trail, 5) == 3
    assert proved(folder) == Verified(f"{NODE}/web", 2, left=3)
    assert [one.number for one in find(trails(folder), Wanted(patient="4711"), 10)] == [5, 4]


def test_what_has_left_is_overwritten_in_the_file(open_trail: Open, folder: Path) -> None:
    """Enough of it to fill pages that are given free."""
    filled(open_trail, 200)
    assert b"Dr Doe" in (folder / "web.db").read_bytes()
    assert pruned(open_trail, 1000) == 200
    assert b"Dr Doe" not in (folder / "web.db").read_bytes()


def test_a_trail_that_is_empty_now_goes_on_where_it_was(open_trail: Open, folder: Path) -> None:
    in_two_parts(open_trail)
    assert pruned(open_trail, 100) == 5
    assert proved(folder) == Verified(f"{NODE}/web", 0, left=5)
    trail = open_trail("web")
    trail.append([record(6)]).result()
    trail.close()
    assert proved(folder) == Verified(f"{NODE}/web", 1, left=5)
    assert pruned(open_trail, 100) == 1
    assert proved(folder) == Verified(f"{NODE}/web", 0, left=6)


def test_what_a_repository_has_not_got_does_not_leave(open_trail: Open, folder: Path) -> None:
    in_two_parts(open_trail)
    assert pruned(open_trail, 100, "tls://arr:6514") == 0
    with closing(sqlite3.connect(folder / "web.db")) as connection, connection:
        connection.execute("INSERT INTO audit_sent VALUES ('tls://arr:6514', 4)")
    assert pruned(open_trail, 100, "tls://arr:6514") == 3


def test_records_leave_in_steps_from_head_to_head(
    open_trail: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("security.audit.pruning._BATCH", 1)
    in_two_parts(open_trail)
    assert pruned(open_trail, 100) == 5
    assert proved(folder).left == 5


@pytest.mark.parametrize(
    ("tamper", "fault", "number"),
    [
        ("DELETE FROM audit_pruned", Fault.REMOVED, 1),
        ("DELETE FROM audit_record WHERE number = 4", Fault.REMOVED, 4),
        ("UPDATE audit_pruned SET number = 4", Fault.UNSIGNED, 4),
        ("UPDATE audit_pruned SET chain = zeroblob(32)", Fault.UNSIGNED, 3),
        (
            "UPDATE audit_pruned SET (number, chain, signature) ="
            " (SELECT number, chain, signature FROM audit_head WHERE number = 5);"
            "DELETE FROM audit_record; DELETE FROM audit_head WHERE number < 5",
            Fault.UNSIGNED,
            5,
        ),
    ],
)
def test_who_takes_records_out_without_the_key_is_told_as_ever(
    tamper: str, fault: Fault, number: int, open_trail: Open, folder: Path
) -> None:
    """A head's signature is none of a beginning."""
    in_two_parts(open_trail)
    pruned(open_trail, 5)
    found = tampered(folder, lambda connection: connection.executescript(tamper))
    assert (found.fault, found.number) == (fault, number)
