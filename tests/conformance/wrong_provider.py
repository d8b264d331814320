"""A DICOM provider that is wrong on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

from conformance.dimse import PATIENT_FIND, STUDY_FIND, STUDY_GET, STUDY_MOVE, Entity

TITLE = "FORGETFUL"
DISCARD = 9
"""The port of a service that nobody offers."""


@contextmanager
def wrong_provider(stored: int) -> Iterator[Entity]:
    """Answers each C-STORE with this status, finds somebody else twice, and retrieves nothing."""
    provider = AE(TITLE)
    for context in AllStoragePresentationContexts:
        provider.add_supported_context(context.abstract_syntax or "")
    for model in (PATIENT_FIND, STUDY_FIND, STUDY_MOVE, STUDY_GET):
        provider.add_supported_context(model)
    server = provider.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[
            (evt.EVT_C_STORE, lambda event: stored),
            (evt.EVT_C_FIND, _found),
            (evt.EVT_C_MOVE, _moved),
            (evt.EVT_C_GET, _got),
        ],
    )
    assert server is not None
    try:
        yield Entity(TITLE, "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()


def _found(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
    identifier = event.identifier
    identifier.PatientName = "Somebody^Else"
    yield 0xFF00, identifier
    yield 0xFF00, identifier


def _moved(_event: evt.Event) -> Iterator[Any]:
    yield "127.0.0.1", DISCARD
    yield 0


def _got(_event: evt.Event) -> Iterator[Any]:
    yield 0
