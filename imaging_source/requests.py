"""Further requests of a study: the pairs of accession and order beside the first that arrived.

One acquisition may answer several requests, and the series of a study then name different
ones. A manifest lists them all (RAD TF-3 4.68.4.1.2, Referenced Request Sequence).
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, insert, select

from imaging_source.schema import REQUEST
from manifest.model import Request, Study

_COLUMNS = REQUEST.c


def keep(connection: Connection, study: Study, named: tuple[str | None, str | None]) -> None:
    """Keep what an instance says of its request, if it is not the one the study's row has.

    ``named`` are accession and order of that row, which must be locked by now: instances of
    one study come one after the other then, so none finds the same request missing.
    """
    (request,) = study.requests
    pair = (request.accession_number, request.placer_order_number)
    if pair in (named, ("", "")):
        return
    known = select(_COLUMNS.study_instance_uid).where(
        _COLUMNS.study_instance_uid == study.study_instance_uid,
        _COLUMNS.accession_number == request.accession_number,
        _COLUMNS.placer_order_number == request.placer_order_number,
    )
    if connection.execute(known).first() is None:
        row = {column.name: getattr(study, column.name) for column in _COLUMNS}
        connection.execute(insert(REQUEST), row)


def with_further(connection: Connection, study: Study) -> Study:
    """The study with its further requests; one that names none itself names the first of them."""
    query = (
        select(
            _COLUMNS.accession_number,
            _COLUMNS.accession_issuer_oid,
            _COLUMNS.placer_order_number,
            _COLUMNS.placer_issuer_oid,
            _COLUMNS.requested_procedure_id,
        )
        .where(_COLUMNS.study_instance_uid == study.study_instance_uid)
        .order_by(_COLUMNS.accession_number, _COLUMNS.placer_order_number)
    )
    further = [Request(*row) for row in connection.execute(query)]
    if further and not (study.accession_number or study.placer_order_number):
        first = further.pop(0)
        study = replace(
            study,
            accession_number=first.accession_number,
            accession_issuer_oid=first.accession_issuer_oid,
            placer_order_number=first.placer_order_number,
            placer_issuer_oid=first.placer_issuer_oid,
            requested_procedure_id=first.requested_procedure_id,
        )
    return replace(study, further_requests=tuple(further))
