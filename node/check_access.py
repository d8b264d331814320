"""What ``kosmos check`` tries of who asks and what he may see: issuers, profile, policy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from node.check_tls import Attempt, lasts
from node.config import Settings
from node.config_file import ConfigError, Problem
from node.texts import tr
from node.wiring.sights import policy_of
from node.wiring.tokens import issuers_of, own_tokens, profile_of


def attempts(settings: Settings) -> Iterator[tuple[str, Attempt]]:
    """What to try, by the key it is about; each attempt raises ConfigError."""
    if not settings.judges_assertions:
        yield "assertions", lambda: tr("off: nobody is asked who he is")
        return
    yield "assertions.issuers", lambda: _issuers(settings)
    yield "assertions.profile", lambda: profile_of(settings).name
    if settings.assertions.own.name:
        yield "assertions.own", lambda: _own(settings)
    yield "policy.file", lambda: policy_of(settings).name


def _issuers(settings: Settings) -> str:
    """How long each issuer's certificates last: what has expired has signed nothing that counts."""
    now, told = datetime.now(UTC), []
    for name, certificates in issuers_of(settings).certificates.items():
        left = max((one.not_valid_after_utc - now).days for one in certificates)
        if left < 0:
            text = tr("the certificates of {name} have expired", name=name)
            raise ConfigError([Problem("assertions.issuers", "", text)])
        told.append(f"{name} {lasts(left)}")
    return "; ".join(told)


def _own(settings: Settings) -> str:
    own_tokens(settings, settings.node.name)()
    if settings.assertions.own.name not in issuers_of(settings).certificates:
        return tr("signs, but this node itself does not believe it: [[assertions.issuers]]")
    return tr("signs")
