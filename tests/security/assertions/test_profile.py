"""A profile is a file: what it may say, and how its faults are told."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from security.assertions.profile import AssertionProfile, ProfileError
from security.assertions.refusal import TokenRefused
from security.assertions.seen import Reuse, Seen
from security.pki import Identity
from storage.database import Database
from tests.security.assertions.conftest import make_desk, read_issuer

XUA = (resources.files("security.assertions") / "xua.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("authn_contexts = []", "", "authn_contexts is missing"),
        ("authn_contexts = []", "authn_context = []", "unknown key authn_context"),
        ("authn_contexts = []", 'authn_contexts = "x"', "authn_contexts must be a list"),
        ("required = []", 'required = ["colour"]', "required: colour is no attribute"),
        ("role = [", "rolle = [", "unknown attribute rolle"),
        ("more#rsa-sha384", "more#rsa-sha224", "is no safe signature algorithm"),
        ("xmlenc#sha256", "xmldsig#sha1", "is no safe digest algorithm"),
        ("name =", "name", "toml"),
    ],
)
def test_a_fault_in_a_profile_is_told_with_its_file(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    file = tmp_path / "profile.toml"
    assert old in XUA
    file.write_text(XUA.replace(old, new))
    with pytest.raises(ProfileError, match=told):
        AssertionProfile.read(file)


def test_a_profile_may_demand_attributes_code_systems_and_authentication(
    tmp_path: Path, pki: dict[str, Identity], database: Database
) -> None:
    file = tmp_path / "strict.toml"
    seen = Seen(database, Reuse.SAME_NODE)

    def judged(**changes: str) -> list[str]:
        text = XUA
        for key, value in changes.items():
            text = text.replace(f"{key} = []", f"{key} = {value}")
        file.write_text(text)
        profile = AssertionProfile.read(file)
        desk = make_desk(pki, read_issuer(pki["node"], profile), profile, seen)
        return [role.code for role in desk.verify(desk.token()).roles]

    assert judged(required='["display_name", "role"]') == ["221"]
    assert judged(role_systems='["1.2.3"]') == []
    with pytest.raises(TokenRefused, match="does not say: organization"):
        judged(required='["organization"]')
    with pytest.raises(TokenRefused, match="way of authentication"):
        judged(authn_contexts='["urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI"]')
