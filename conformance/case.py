"""What a conformance case is, and how cases are collected.

A case names itself in English and French, the part of the standard it stands for, the actor
it tests, the endpoints it needs, what must come back, and how to bring that about. The
stimulus is a generator: each thing it yields was seen on the wire and is judged against the
next of the expectations; only then does the stimulus go on. What is merely preparation is
not yielded: when it fails, so does the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from string import ascii_lowercase
from typing import TYPE_CHECKING

from conformance.text import Text

if TYPE_CHECKING:
    from conformance.bench import Bench
    from conformance.expectation import Expectation
    from conformance.seen import Seen

Stimulus = Callable[["Bench"], Iterator["Seen"]]


class Actor(Enum):
    """Whose behaviour a case judges; reports keep this order."""

    REGISTRY_SUBMIT = Text("Document Registry: submissions", "Registre : soumissions")
    REGISTRY_QUERY = Text("Document Registry: queries", "Registre : requêtes")
    REGISTRY_ADMINISTRATION = Text("Document Registry: administration", "Registre : administration")
    USER_ASSERTIONS = Text("Document Registry: who may ask", "Registre : qui peut demander")
    AUDIT = Text("Secure node: audit trail", "Nœud sécurisé : traces")
    REPOSITORY = Text("Document Repository", "Entrepôt de documents")
    REPOSITORY_ADMINISTRATION = Text(
        "Document Repository: administration", "Entrepôt : administration"
    )
    BROKER = Text("Notification Broker", "Courtier de notifications")
    PATIENT_FEED = Text("Patient Identity Feed", "Flux d'identité patient")
    IMAGING = Text("Imaging Document Source", "Source de documents d'imagerie")
    CONSUMER = Text("Imaging Document Consumer", "Consommateur de documents d'imagerie")
    MANIFEST = Text("Imaging manifest", "Manifeste d'imagerie")
    WEB_SERVICES = Text("Web services", "Services web")


NEEDS = {
    "registry": Text("--registry URL", "--registry URL"),
    "repository": Text("--repository URL", "--repository URL"),
    "imaging": Text("--imaging URL", "--imaging URL"),
    "mllp": Text("--mllp HOST:PORT", "--mllp HÔTE:PORT"),
    "identity_v3": Text(
        "an ITI-44 endpoint (--identity-v3 URL)", "un service ITI-44 (--identity-v3 URL)"
    ),
    "feed": Text(
        "an identity feed (--mllp HOST:PORT or --identity-v3 URL)",
        "un flux d'identité (--mllp HÔTE:PORT ou --identity-v3 URL)",
    ),
    "patients": Text(
        "an identity feed, or known patients (--patient ID, three times)",
        "un flux d'identité, ou des patients connus (--patient ID, trois fois)",
    ),
    "link_change": Text(
        "the XAD-PID link change (ITI-64) at the feed (--link-change)",
        "le changement de lien XAD-PID (ITI-64) au flux (--link-change)",
    ),
    "multi_patient": Text(
        "ITI-51 at the registry (--multi-patient)", "ITI-51 au registre (--multi-patient)"
    ),
    "on_demand": Text(
        "On-Demand entries, ITI-61, at the registry (--on-demand)",
        "les fiches On-Demand, ITI-61, au registre (--on-demand)",
    ),
    "on_demand_type": Text(
        "documents the repository assembles when asked (--on-demand-type CODE^^SCHEME)",
        "des documents que l'entrepôt assemble à la demande (--on-demand-type CODE^^NOMENCLATURE)",
    ),
    "administration": Text(
        "ITI-57, ITI-62 and ITI-92 at the registry, ITI-86 at the repository (--administration)",
        "ITI-57, ITI-62 et ITI-92 au registre, ITI-86 à l'entrepôt (--administration)",
    ),
    "subscriptions": Text("--subscriptions URL", "--subscriptions URL"),
    "listener": Text(
        "a place of this machine that the broker reaches (--listener HOST:PORT)",
        "un lieu de cette machine que le courtier atteint (--listener HÔTE:PORT)",
    ),
    "broker_restart": Text(
        "a command that kills and restarts the broker (--broker-restart COMMAND)",
        "une commande qui tue et relance le courtier (--broker-restart COMMANDE)",
    ),
    "namespace": Text(
        "the namespace of the assigning authority (--namespace NAME)",
        "l'espace de noms du domaine d'identification (--namespace NOM)",
    ),
    "imaging_unique_id": Text(
        "the imaging source's repositoryUniqueId (--imaging-id OID)",
        "le repositoryUniqueId de la source d'imagerie (--imaging-id OID)",
    ),
    "study": Text(
        "an image the source holds (--study STUDY/SERIES/INSTANCE), or a way to store one "
        "(--dicom AE@HOST:PORT or --dicomweb URL)",
        "une image détenue par la source (--study EXAMEN/SÉRIE/INSTANCE), ou un moyen d'en déposer "
        "une (--dicom AE@HÔTE:PORT ou --dicomweb URL)",
    ),
    "dicomweb": Text("--dicomweb URL", "--dicomweb URL"),
    "wado_uri": Text("--wado-uri URL", "--wado-uri URL"),
    "dicom": Text("--dicom AE@HOST:PORT", "--dicom AE@HÔTE:PORT"),
    "images": Text(
        "a way to store images (--dicom AE@HOST:PORT or --dicomweb URL)",
        "un moyen de déposer des images (--dicom AE@HÔTE:PORT ou --dicomweb URL)",
    ),
    "move_to": Text(
        "a place of this machine that the source moves images to (--move-to AE@HOST:PORT)",
        "un lieu de cette machine où la source envoie des images (--move-to AE@HÔTE:PORT)",
    ),
    "publishes": Text(
        "a source that publishes to this repository and registry (--publishes)",
        "une source qui publie dans cet entrepôt et ce registre (--publishes)",
    ),
    "repository_facing_simulator": Text(
        "a repository that registers with the kit's own registry "
        "(--repository-facing-simulator URL --simulator-port PORT)",
        "un entrepôt relié au registre simulé du kit "
        "(--repository-facing-simulator URL --simulator-port PORT)",
    ),
    "issuer": Text(
        "a registry that asks for assertions of an issuer the kit can sign as (--issuer NAME "
        "--issuer-certificate FILE --issuer-key FILE --audience URI)",
        "un registre qui demande des assertions d'un émetteur dont le kit a la clé (--issuer NOM "
        "--issuer-certificate FICHIER --issuer-key FICHIER --audience URI)",
    ),
    "secured": Text(
        "a registry at https that knows the kit's certificate (--tls-certificate FILE "
        "--tls-key FILE --tls-trust FILE)",
        "un registre en https qui connaît le certificat du kit (--tls-certificate FICHIER "
        "--tls-key FICHIER --tls-trust FICHIER)",
    ),
    "audit_listener": Text(
        "a place of this machine that the node sends its audit records to "
        "(--audit-listener HOST:PORT)",
        "un lieu de cette machine où le nœud envoie ses traces (--audit-listener HÔTE:PORT)",
    ),
    "authority": Text(
        "a test authority that the registry believes (--tls-authority FILE "
        "--tls-authority-key FILE)",
        "une autorité de test reconnue du registre (--tls-authority FICHIER "
        "--tls-authority-key FICHIER)",
    ),
    "direct": Text(
        "a certificate that signs itself and that the registry knows (--direct-certificate FILE "
        "--direct-key FILE)",
        "un certificat qui se signe lui-même, connu du registre (--direct-certificate FICHIER "
        "--direct-key FICHIER)",
    ),
    "crash": Text(
        "a command that kills and restarts the repository (--crash COMMAND)",
        "une commande qui tue et relance l'entrepôt (--crash COMMANDE)",
    ),
}
"""What a case may need, in the words of the command line."""


@dataclass(frozen=True, slots=True)
class Case:
    """One conformance case; ``needs`` are keys of ``NEEDS``."""

    id: str
    title: Text
    spec: str
    actor: Actor
    needs: frozenset[str]
    expected: tuple[Expectation, ...]
    stimulus: Stimulus


class Cases:
    """The cases of one actor in a module, in order; ``needs`` apply to all of them."""

    def __init__(self, actor: Actor, needs: str = "") -> None:
        self._actor = actor
        self._needs = needs
        self._cases: list[Case] = []

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases)

    def add(
        self,
        case_id: str,
        en: str,
        fr: str,
        *,
        spec: str,
        expected: Sequence[Expectation],
        stimulus: Stimulus,
        needs: str = "",
    ) -> None:
        """Add a case made from a table's row."""
        wanted = frozenset(f"{self._needs} {needs}".split())
        assert wanted <= NEEDS.keys(), wanted - NEEDS.keys()
        self._cases.append(
            Case(case_id, Text(en, fr), spec, self._actor, wanted, tuple(expected), stimulus)
        )

    def case(
        self,
        case_id: str,
        en: str,
        fr: str,
        *,
        spec: str,
        expected: Sequence[Expectation],
        needs: str = "",
    ) -> Callable[[Stimulus], Stimulus]:
        """Add the decorated stimulus as a case."""

        def collect(stimulus: Stimulus) -> Stimulus:
            self.add(case_id, en, fr, spec=spec, expected=expected, stimulus=stimulus, needs=needs)
            return stimulus

        return collect


def select(cases: Iterable[Case], ids: Iterable[str]) -> list[Case]:
    """The cases with these ids; ``G04`` also selects ``G04-classCode`` and the like, ``G`` all G.

    No ids select everything. Raises KeyError for an id that selects nothing.
    """
    everything = list(cases)
    wanted = list(ids)
    if not wanted:
        return everything
    for case_id in wanted:
        if not any(_is(case, case_id) for case in everything):
            raise KeyError(case_id)
    return [case for case in everything if any(_is(case, case_id) for case_id in wanted)]


def _is(case: Case, case_id: str) -> bool:
    name, wanted = case.id.lower(), case_id.lower()
    return name == wanted or name.startswith(f"{wanted}-") or _group(name) == wanted


def _group(name: str) -> str:
    """The letters an id begins with: ``q`` of ``q07-status``."""
    return name[: len(name) - len(name.lstrip(ascii_lowercase))]
