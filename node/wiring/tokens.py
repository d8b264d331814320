"""The assertions that a node makes about itself and those who run its commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from metadata.model import Code
from node.config import Settings
from node.config_file import ConfigError, Problem, read_secret
from security.assertions.issuing import Issuer, Person
from security.assertions.profile import AssertionProfile, ProfileError
from security.assertions.signature import IssuerError, Issuers

# An assertion of our own is made anew when less than this is left of it: a call may take a while.
RENEWAL = timedelta(minutes=5)


def audiences(settings: Settings) -> tuple[str, ...]:
    """What an assertion for this node names as its audience."""
    return settings.assertions.audiences or (f"urn:oid:{settings.node.home_community_id}",)


def issuers_of(settings: Settings) -> Issuers:
    """Those whose assertions this node believes. Raises ConfigError."""
    try:
        return Issuers.read({one.name: one.certificates for one in settings.assertions.issuers})
    except IssuerError as error:
        raise ConfigError([Problem("assertions.issuers", "", str(error))]) from error


def profile_of(settings: Settings) -> AssertionProfile:
    """The assertion profile of the node. Raises ConfigError."""
    chosen = settings.assertions.profile
    try:
        return AssertionProfile.read(chosen if isinstance(chosen, Path) else None)
    except ProfileError as error:
        raise ConfigError([Problem("assertions.profile", "", str(error))]) from error


@dataclass(slots=True)
class OwnTokens:
    """Assertions about whoever runs this process, made when they are needed."""

    issuer: Issuer
    person: Person
    _token: str = ""
    _until: datetime | None = None

    def __call__(self) -> str:
        """An assertion that holds for a while."""
        now = datetime.now(UTC)
        if self._until is None or now > self._until - min(RENEWAL, self.issuer.lifetime / 2):
            self._token = self.issuer.issue(self.person)
            self._until = now + self.issuer.lifetime
        return self._token


def own_tokens(settings: Settings, user: str) -> Callable[[], str]:
    """What makes assertions about ``user`` for calls to other nodes; empty ones where the node
    makes none. Raises ConfigError."""
    own = settings.assertions.own
    if not own.name:
        return str
    said: dict[str, Sequence[str | Code]] = {
        "display_name": [user],
        "purpose_of_use": [own.purpose.coded],
        "role": [own.role.coded] if own.role else [],
    }
    return OwnTokens(own_issuer(settings), Person(user, said))


def own_issuer(settings: Settings) -> Issuer:
    """The issuer that the node is for itself. Raises ConfigError."""
    own = settings.assertions.own
    try:
        return Issuer.read(
            own.name,
            own.certificate,
            own.key,
            profile=profile_of(settings),
            audiences=audiences(settings),
            lifetime=timedelta(minutes=own.minutes),
            password=read_secret(own.key_password_file),
        )
    except IssuerError as error:
        raise ConfigError([Problem("assertions.own", "", str(error))]) from error
