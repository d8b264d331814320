"""Document Registry: every rule about stored queries, each broken by one request (C)."""

from __future__ import annotations

from conformance.bench import Bench
from conformance.case import Actor
from conformance.cases.query_faults import ANYONE, SOMETHING, adding, without
from conformance.graph import graph
from conformance.rules import RuleCases
from conformance.seen import Answer
from conformance.wire import new_message_id, simple
from metadata import catalogue as rules
from metadata.datatypes import new_oid, new_uuid_urn
from metadata.identifiers import QUERY
from soap import envelope
from transactions.iti_18 import ITI_18, LEAF_CLASS, AdhocQueryRequest, AdhocQueryResponse
from transactions.query_values import quote
from transactions.stored_query import find_documents, get_documents

CASES = RuleCases(Actor.REGISTRY_QUERY, "ITI-18", "registry patients")

STATUS, TITLE_TIME = "$XDSDocumentEntryStatus", "$XDSDocumentEntryCreationTimeFrom"
PATIENT = "$XDSDocumentEntryPatientId"

Response = Answer[AdhocQueryResponse]


def _unknown_query(bench: Bench) -> Response:
    unknown = new_uuid_urn()
    return bench.ask(ITI_18, AdhocQueryRequest(unknown, LEAF_CLASS, [])).naming(unknown)


def _return_type(bench: Bench) -> Response:
    return bench.query(find_documents(bench.patient(), return_type="RegistryObject")).naming(
        "RegistryObject"
    )


def _parameter_missing(bench: Bench) -> Response:
    return bench.query(without(SOMETHING["FindDocuments"], STATUS)).naming(STATUS)


def _alternative_missing(bench: Bench) -> Response:
    query_id = SOMETHING["GetDocuments"].query_id
    request = AdhocQueryRequest(query_id, LEAF_CLASS, [])
    return bench.query(request).naming("$XDSDocumentEntryUniqueId")


def _status_unknown(bench: Bench) -> Response:
    request = find_documents(bench.patient(), status=["urn:kit:status:Bogus"])
    return bench.query(request).naming(STATUS)


def _two_values(bench: Bench) -> Response:
    request = without(SOMETHING["FindDocuments"], PATIENT)
    two = f"({quote(ANYONE)},{quote('NOBODY^^^&2.25.8&ISO')})"
    return bench.query(adding(request, PATIENT, two)).naming(PATIENT)


def _slot_repeated(bench: Bench) -> Response:
    code = "('1^^1.2.3')"
    request = adding(SOMETHING["FindDocuments"], "$XDSDocumentEntryClassCode", code)
    request = adding(request, "$XDSDocumentEntryClassCode", code)
    return bench.query(request).naming("$XDSDocumentEntryClassCode")


def _both_alternatives(bench: Bench) -> Response:
    request = get_documents(entry_uuid=[new_uuid_urn()], unique_id=[new_oid()])
    return bench.query(request).naming("$XDSDocumentEntryUniqueId")


def _coding(bench: Bench) -> Response:
    request = adding(SOMETHING["FindDocuments"], TITLE_TIME, "yesterday")
    return bench.query(request).naming(TITLE_TIME)


def _two_patients(bench: Bench) -> Response:
    one = graph(bench)
    return bench.query(get_documents(entry_uuid=one.ids("AX")))


def _unreadable(bench: Bench) -> Response:
    url = bench.targets.endpoint("registry")
    pieces = envelope.write_request(
        [f'<query:AdhocQueryRequest xmlns:query="{QUERY}"/>'.encode()],
        action=ITI_18.action,
        message_id=new_message_id(),
        to=url,
        token=bench.wire.token(),
    )
    return bench.wire.send(url, simple(pieces, ITI_18.action), ITI_18)


NAMELESS = (rules.NOT_SINGLE_PATIENT, rules.BODY_UNREADABLE)
"""Rules about the whole of an answer, or of a message."""

for _rule, _en, _fr, _breach, _also in (
    (
        rules.UNKNOWN_STORED_QUERY,
        "A query that nobody has defined",
        "Une requête que personne n'a définie",
        _unknown_query,
        "",
    ),
    (
        rules.RETURN_TYPE,
        "A returnType that is neither LeafClass nor ObjectRef",
        "Un returnType autre que LeafClass ou ObjectRef",
        _return_type,
        "",
    ),
    (
        rules.PARAMETER_MISSING,
        "FindDocuments without status",
        "FindDocuments sans statut",
        _parameter_missing,
        "",
    ),
    (
        rules.ALTERNATIVE_MISSING,
        "GetDocuments without any identifier",
        "GetDocuments sans aucun identifiant",
        _alternative_missing,
        "",
    ),
    (
        rules.STATUS_UNKNOWN,
        "FindDocuments with an unknown status alone",
        "FindDocuments avec pour seul statut un inconnu",
        _status_unknown,
        "",
    ),
    (
        rules.PARAMETER_VALUES,
        "FindDocuments for two patients",
        "FindDocuments pour deux patients",
        _two_values,
        "",
    ),
    (
        rules.PARAMETER_REPEATED,
        "classCode in two Slots, which only attributes of many values allow",
        "classCode dans deux Slots, permis aux seuls attributs à valeurs multiples",
        _slot_repeated,
        "",
    ),
    (
        rules.ALTERNATIVES_BOTH,
        "GetDocuments by entryUUID and uniqueId together",
        "GetDocuments par entryUUID et uniqueId ensemble",
        _both_alternatives,
        "",
    ),
    (
        rules.PARAMETER_CODING,
        "A time that is no number",
        "Une date qui n'est pas un nombre",
        _coding,
        "XDSRegistryMetadataError",
    ),
    (
        rules.NOT_SINGLE_PATIENT,
        "Documents of two patients as LeafClass",
        "Les documents de deux patients en LeafClass",
        _two_patients,
        "",
    ),
    (
        rules.BODY_UNREADABLE,
        "A request without ResponseOption and AdhocQuery",
        "Une requête sans ResponseOption ni AdhocQuery",
        _unreadable,
        "fault",
    ),
):
    _about = "" if _rule in NAMELESS else "what breaks the rule"
    CASES.breaking(_rule, _en, _fr, _breach, also=_also, about=_about)
