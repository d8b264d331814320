"""Every benchmark does its work, rightly, at a scale of seconds; its speed is not judged."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import (
    at_rest,
    audit,
    images,
    large,
    manifests,
    queries,
    region,
    scale,
    sizing,
    submissions,
    transfers,
)
from benchmarks.figures import Row, WrongAnswer, interleaved, per_second, table, throughput
from benchmarks.load import http_answer, mllp_answer
from benchmarks.peers import are_there
from benchmarks.place import fresh
from benchmarks.postgresql import NoPostgreSQL
from benchmarks.scale import ENGINES, Scale
from metadata.validation import validate_submission
from registry.bulk.preparation import read

MIB = 1024 * 1024


def is_sensible(row: Row) -> bool:
    return math.isfinite(row.ratio) and row.ratio >= 0


def test_find_documents_is_answered_with_all_its_hits() -> None:
    scale = queries.Scale(entries=150, fewer=100, queries=16, rounds=1)
    rate, slowest, growth = queries.measure(scale)
    assert rate.ratio > 0
    assert slowest.at_most
    assert growth.ratio > 0


def test_sealing_at_rest_is_measured_beside_the_same_without() -> None:
    rows = list(at_rest.measure_document(at_rest.Scale(size=MIB, rounds=1)))
    assert [row.reach for row in rows] == [0.6, 64, 0.6, 64]
    assert all(is_sensible(row) for row in rows)


def test_registrations_and_documents_are_accepted() -> None:
    few = submissions.Scale(messages=16, seconds=0.05, rounds=1)
    rows = [*submissions.measure_registrations(few), *submissions.measure_documents(few)]
    assert [row.reach for row in rows] == [0.25, 0.15]
    assert all(row.ratio > 0 for row in rows)


def test_what_an_entry_weighs_is_measured_by_table(postgresql_database_url: str) -> None:
    for url in (None, postgresql_database_url):
        weights = {weight.table: weight for weight in sizing.measure(120, url)}
        assert weights["document_entry"].rows == weights["stored_document"].rows == 1
        assert weights["object"].rows == 3
        assert all(weight.bytes > 20 for weight in weights.values())
        assert "| `patient` | 1.00 a patient |" in sizing.page(list(weights.values()))


def test_a_trail_is_written_beside_queries_and_proved() -> None:
    rate, proved = audit.measure(audit.QUICK)
    assert is_sensible(rate)
    assert proved.ratio > 0


def test_a_large_document_comes_back_byte_for_byte() -> None:
    rows = list(transfers.measure(transfers.Scale(size=2 * MIB, rounds=1)))
    assert len(rows) == 4
    assert all(map(is_sensible, rows))


def test_a_study_comes_back_byte_for_byte() -> None:
    rows = list(images.measure_retrieval(images.Scale(instances=3, rounds=1)))
    assert all(map(is_sensible, rows))


def test_a_large_instance_comes_in_and_leaves_as_it_was() -> None:
    rows = list(large.measure(large.Scale(size=2 * MIB, instances=3, rounds=1)))
    assert {row.reach for row in rows} == {32, 150}
    assert all(map(is_sensible, rows))


def test_what_is_left_out_is_told_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert are_there("nothing", sys.executable)
    assert not are_there("ZIP beside Orthanc", sys.executable, "no-such-program", Path("/no/file"))
    told = capsys.readouterr().err
    assert told == "left out: ZIP beside Orthanc: no no-such-program, /no/file here\n"


def test_manifests_are_what_pydicom_writes() -> None:
    rows = list(manifests.measure(manifests.QUICK))
    assert len(rows) == 4
    assert all(map(is_sensible, rows))


@pytest.mark.skipif(not shutil.which("storescp"), reason="DCMTK is not installed")
def test_every_instance_sent_is_stored() -> None:
    [row] = images.measure_storage(images.Scale(instances=4, rounds=1))
    assert row.ratio > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_regions_registry_answers_rightly_on_each_engine(engine: str) -> None:
    few = Scale(
        entries=600,
        fewer=300,
        large=50,
        questions=20,
        registrations=16,
        mixed_seconds=0.4,
        seconds=0.1,
        rounds=1,
    )
    try:
        rows = list(scale.measure(few, [engine]))
    except NoPostgreSQL as missing:
        pytest.skip(str(missing))
    assert len(rows) == (10 if engine == "postgresql" else 9)
    assert all(map(is_sensible, rows))
    assert all(row.work.startswith(engine) for row in rows)


def test_the_patients_of_a_region_have_as_many_documents_as_it_has_entries() -> None:
    everyone = region.patients(20_000, large=1_000)
    assert sum(sum(one.submissions) for one in everyone) == 20_000
    assert sum(everyone[0].submissions) == 1_000
    tens = [one for one in everyone if sum(one.submissions) == region.HITS]
    assert len(tens) >= 400


def test_copies_of_a_message_are_of_one_length_and_share_no_id() -> None:
    with fresh("mould") as place:
        mould = region.Mould(place.material, 2, region.text_of)
        (first, documents), (second, others) = mould.cast(1), mould.cast(2)
        submissions = [read(text) for text in (first, second)]
        assert not any(validate_submission(one, place.domain) for one in submissions)
    assert len(first) == len(second)
    ids = [{obj.entry_uuid for obj in one.objects()} for one in submissions]
    assert not ids[0] & ids[1]
    assert [one.unique_id for one in submissions[0].documents] == [d.unique_id for d in documents]
    assert not {d.reference for d in documents} & {d.reference for d in others}


def test_a_file_that_arrives_damaged_is_a_wrong_answer() -> None:
    receiver = transfers.Receiver(("127.0.0.1", 1), 1000)
    with pytest.raises(WrongAnswer):
        receiver.expect([b"never sent"])


def test_the_ratio_is_that_of_the_medians() -> None:
    row = per_second("work", [1, 50, 1000], [100, 1, 200], reach=0.5)
    assert row.ratio == 0.5
    assert row.is_met
    assert throughput("work", MIB, [2.0], [1.0], 0.6).ratio == 0.5


def test_a_goal_may_be_an_upper_bound() -> None:
    assert Row("memory", "+65 MiB", "", 65, 64, at_most=True).is_met is False
    assert "missed" in table([Row("memory", "+65 MiB", "", 65, 64, at_most=True)])


def test_measurements_and_references_take_turns() -> None:
    order: list[str] = []
    interleaved(2, lambda: order.append("ours"), lambda: order.append("theirs"))
    assert order == ["ours", "theirs", "ours", "theirs"]


def test_answers_are_measured_only_when_their_end_is_known() -> None:
    answer = bytearray(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert http_answer(answer, 10) == 0
    assert http_answer(answer, len(answer)) == len(answer)
    block = bytearray(b"\x0bMSA|AA|1\r\x1c\r")
    assert mllp_answer(block, 5) == 0
    assert mllp_answer(block, len(block)) == len(block)


def test_identity_messages_are_accepted_and_the_figures_written_where_asked(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = ["-m", "benchmarks", "--quick", "--only", "feed", "--json", str(file)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    [row] = json.loads(file.read_text())["rows"]
    assert row["work"] in done.stdout
