"""An assertion that one process of a node has met is no other node's at the other process."""

from __future__ import annotations

import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from imaging_source.ledger import End
from imaging_source.users import UserRefused
from node.config_file import load
from node.init import NewNode, create
from node.migrate import migrate
from node.wiring.associations import open_users
from node.wiring.common import own_assertions
from node.wiring.gate import open_gate
from security.assertions.refusal import TokenRefused
from security.pki import Identity
from tests.security.conftest import pki

__all__ = ["pki"]


def test_web_and_dicom_look_into_each_others_memory(
    tmp_path: Path, pki: dict[str, Identity]
) -> None:
    settings = load(create(NewNode(tmp_path / "node", port_base=0)))
    migrate(settings)
    node, thief = (pki[name].certificate.read_text() for name in ("node", "stranger"))
    with ExitStack() as stack:
        opened = open_gate(settings, stack, None)
        users = open_users(settings, stack, None)
        assert opened is not None
        assert users is not None
        web = opened[0].verifier

        def by_dicom(token: str, certificate: str) -> None:
            users(End("PACS", "", ssl.PEM_cert_to_DER_cert(certificate)), token.encode())

        first, second = (own_assertions(settings, name)() for name in ("ada", "bob"))
        web.verify_token(first.encode(), node)
        with pytest.raises(UserRefused):
            by_dicom(first, thief)
        by_dicom(first, node)
        by_dicom(second, node)
        with pytest.raises(TokenRefused):
            web.verify_token(second.encode(), thief)
        web.verify_token(second.encode(), node)
