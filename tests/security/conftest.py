"""A test authority and two nodes, made once: RSA keys are slow to make."""

import pytest

from security.pki import Identity, create_authority, issue

HOSTS = ["localhost", "127.0.0.1"]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    """Identities by name: the authority, a node, and a stranger of another authority."""
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    authority = create_authority(ours, "Test authority")
    elsewhere = create_authority(theirs, "Another authority")
    return {
        "authority": authority,
        "node": issue(ours, authority, "node", HOSTS),
        "stranger": issue(theirs, elsewhere, "stranger", HOSTS),
        "elsewhere": elsewhere,
    }
