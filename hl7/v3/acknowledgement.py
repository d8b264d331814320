"""The answer to an ITI-44 request: MCCI_IN000002UV01 (ITI TF-2 3.44.4.1.3, O.1.3).

CA: accepted, the effect is durable. CE: the content is wrong, do not send it again as it is.
CR: not taken in for another reason, sending it later may succeed. They are AA, AE and AR of
``hl7.ack`` in another dress, and so are the codes of their details.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lxml import etree

from hl7.errors import TABLE_0357 as TEXTS
from hl7.errors import Problem
from hl7.v3.names import (
    ACKNOWLEDGEMENT,
    II,
    NONE,
    TABLE_0357,
    id_node,
    node,
    path,
    read_id,
    serialised,
    transmission,
)

ACCEPT = "CA"
ERROR = "CE"
REJECT = "CR"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An acknowledgement: ``status`` is CA, CE or CR, ``target`` the id of what is answered.

    ``sender`` and ``receiver`` are the devices of this message: those of the request, changed.
    """

    status: str
    target: II = NONE
    problems: Sequence[Problem] = ()
    sender: II = NONE
    receiver: II = NONE


def write_acknowledgement(answer: Acknowledgement, now: datetime | None = None) -> bytes:
    """The message in UTF-8, with a fresh id of its own."""
    moment = now or datetime.now(UTC)
    root = transmission(ACKNOWLEDGEMENT, "NE", answer.sender, answer.receiver, None, moment)
    acknowledgement = node(root, "acknowledgement")
    node(acknowledgement, "typeCode", code=answer.status)
    id_node(node(acknowledgement, "targetMessage"), answer.target)
    for problem in answer.problems:
        _detail(acknowledgement, problem)
    return serialised(root)


def read_acknowledgement(root: etree._Element) -> Acknowledgement | None:
    """The acknowledgement in a message; None when it has none."""
    found = root.find(path("acknowledgement"))
    type_code = None if found is None else found.find(path("typeCode"))
    if found is None or type_code is None:
        return None
    return Acknowledgement(
        status=type_code.get("code", ""),
        target=read_id(found.find(path("targetMessage/id"))),
        problems=tuple(map(_problem, found.iterfind(path("acknowledgementDetail")))),
        sender=read_id(root.find(path("sender/device/id"))),
        receiver=read_id(root.find(path("receiver/device/id"))),
    )


def _detail(parent: etree._Element, problem: Problem) -> None:
    detail = node(parent, "acknowledgementDetail", typeCode="E")
    text = TEXTS.get(problem.code, "")
    node(detail, "code", code=problem.code, codeSystem=TABLE_0357, displayName=text)
    node(detail, "text", problem.detail)
    if problem.location:
        node(detail, "location", problem.location)


def _problem(detail: etree._Element) -> Problem:
    code = detail.find(path("code"))
    return Problem(
        code="" if code is None else code.get("code", ""),
        detail=detail.findtext(path("text"), ""),
        location=detail.findtext(path("location"), ""),
    )
