"""Document Metadata Notification Broker: time, recipients that are down, a restart (D03)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from conformance.bench import Bench
from conformance.case import Actor, Cases
from conformance.expectation import Mismatch, Same
from conformance.seen import Compared, Seen
from conformance.subscribing import (
    QUIET_SECONDS,
    contents,
    entry_told,
    listening,
    of_patient,
    place,
    told,
)

CASES = Cases(Actor.BROKER, "subscriptions registry patients listener")

DELIVERY = "ITI TF-2 3.53; WS-BaseNotification 1.3, 4.2"

RESTART_SECONDS = 120
"""How long the restart command may take to have the broker back."""


@CASES.case(
    "D03-expired",
    "A subscription that has expired is told nothing; another is",
    "Un abonnement expiré n'est averti de rien ; un autre l'est",
    spec="ITI TF-2 3.52.4.1.2; WS-BaseNotification 1.3, 6.4",
    expected=[Same("told alone who stayed")],
)
def _expired(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    with listening(bench) as here:
        short, long = here.inbox(), here.inbox()
        of_patient(bench, short, patient, end="PT1S")
        of_patient(bench, long, patient)
        bench.next_second()
        entry = bench.registered_entry(patient)
        seen = (contents(told(bench, long)), short.next(QUIET_SECONDS))
    yield Compared("who stayed, who expired", ([entry_told(entry)], None), seen)


@CASES.case(
    "D03-down",
    "A recipient that was down is told all of it, in order, once it is back",
    "Un destinataire arrêté est averti de tout, dans l'ordre, à son retour",
    spec=DELIVERY,
    expected=[Same("everything missed, in order")],
)
def _recipient_down(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    with place(bench) as here:
        inbox = here.inbox()
        of_patient(bench, inbox, patient)
        entries = [bench.registered_entry(patient) for _ in range(3)]
        time.sleep(QUIET_SECONDS)  # the first attempt meets nobody
        with here.listening():
            seen = contents(told(bench, inbox, len(entries)))
    yield Compared("notifications", [entry_told(entry) for entry in entries], seen)


@CASES.case(
    "D03-restart",
    "The broker is killed and restarted: subscription and waiting notification are still there",
    "Le courtier est tué et relancé : l'abonnement et la notification en attente sont là",
    spec=DELIVERY,
    needs="broker_restart",
    expected=[Same("everything missed, in order")],
)
def _broker_restarted(bench: Bench) -> Iterator[Seen]:
    patient = bench.patient()
    with place(bench) as here:
        inbox = here.inbox()
        of_patient(bench, inbox, patient)
        before = bench.registered_entry(patient)
        _restart(bench.targets.broker_restart or "")
        with here.listening():
            after = bench.registered_entry(patient)
            seen = contents(told(bench, inbox, 2))
    yield Compared("notifications", [entry_told(before), entry_told(after)], seen)


def _restart(command: str) -> None:
    """Run the operator's own command; raises Mismatch when it fails."""
    try:
        subprocess.run(command, shell=True, check=True, timeout=RESTART_SECONDS)
    except subprocess.SubprocessError as error:
        raise Mismatch("a restart of the broker", str(error)) from None
