"""Query and retrieve as services of the provider: SOP classes and command fields to handlers."""

from __future__ import annotations

from imaging_source.dimse import C_FIND_RQ, C_GET_RQ, C_MOVE_RQ
from imaging_source.negotiation import Offer
from imaging_source.query_retrieve.find import Finder
from imaging_source.query_retrieve.models import (
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from imaging_source.query_retrieve.retrieve import Retriever
from imaging_source.service import Services, recorded


def query_retrieve(finder: Finder, retriever: Retriever) -> Services:
    """C-FIND, C-MOVE and C-GET of both models; for those alone who may see what is stored."""
    handlers = {
        (PATIENT_ROOT_FIND, C_FIND_RQ): recorded(finder.answer),
        (STUDY_ROOT_FIND, C_FIND_RQ): recorded(finder.answer),
        (PATIENT_ROOT_MOVE, C_MOVE_RQ): retriever.move,
        (STUDY_ROOT_MOVE, C_MOVE_RQ): retriever.move,
        (PATIENT_ROOT_GET, C_GET_RQ): retriever.get,
        (STUDY_ROOT_GET, C_GET_RQ): retriever.get,
    }
    return Services(Offer(shown=frozenset(uid for uid, _ in handlers)), handlers)
