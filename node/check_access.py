"""What ``kosmos check`` tries of who asks and what he may see: issuers, profile, policy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from node.check_tls import Attempt, lasts
from node.config import Settings
from node.config_file import ConfigError, Problem
from node.texts import tr
from node.wiring.common import affinity_domain
from node.wiring.sights import policy_of
from node.wiring.tokens import issuers_of, own_tokens, profile_of
from security.access.sight import CONSENT_FORMATS


def attempts(settings: Settings) -> Iterator[tuple[str, Attempt]]:
    """What to try, by the key it is about; each attempt raises ConfigError."""
    if not settings.judges_assertions:
        yield "assertions", lambda: tr("off: nobody is asked who he is")
        return
    yield "assertions.issuers", lambda: _issuers(settings)
    yield "assertions.profile", lambda: profile_of(settings).name
    if settings.assertions.own.name:
        yield "assertions.own", lambda: _own(settings)
    yield "policy.file", lambda: _policy(settings)


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


def _policy(settings: Settings) -> str:
    """The policy, and which consents no document can give: the registry would refuse its codes."""
    policy = policy_of(settings)
    notes, sets = [policy.name], affinity_domain(settings).code_sets
    formats, events = sets.get("formatCode"), sets.get("eventCodeList")
    if policy.consents and formats is not None:
        known = {f"{code}^^{scheme}" for scheme, code in formats.names}
        if known.isdisjoint(CONSENT_FORMATS):
            notes.append(tr("[consents]: the code sets have no formatCode of consent documents"))
    said = policy.consents.keys() if events is None else {code for _, code in events.names}
    if unsaid := ", ".join(sorted(policy.consents.keys() - said)):
        text = tr("[consents]: the code sets have no eventCodeList code {named}", named=unsaid)
        notes.append(text)
    return "; ".join(notes)


def _own(settings: Settings) -> str:
    own_tokens(settings, settings.node.name)()
    if settings.assertions.own.name not in issuers_of(settings).certificates:
        return tr("signs, but this node itself does not believe it: [[assertions.issuers]]")
    return tr("signs")
