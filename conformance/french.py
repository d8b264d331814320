"""What cases expect, in French: the phrases that are not terms of the standard.

Expectations are written in English where a case is written; here is each phrase once more. A
test keeps the table complete.
"""

from __future__ import annotations

from conformance.text import Language

PHRASES = {
    "Action, mustUnderstand, RelatesTo": "Action, mustUnderstand, RelatesTo",
    "CA for both additions": "CA pour les deux ajouts",
    "CA for the merge": "CA pour la fusion",
    "CE for a merge with itself": "CE pour une fusion avec soi-même",
    "a later time": "une heure plus tardive",
    "both entries": "les deux fiches",
    "both statuses": "les deux statuts",
    "bytes retrieved during ITI-42": "les octets récupérés pendant ITI-42",
    "complete objects": "des objets complets",
    "control ids in order": "les identifiants de message dans l'ordre",
    "every attribute": "chaque attribut",
    "hash and size of what was retrieved": "l'empreinte et la taille de ce qui est récupéré",
    "hash in the registry": "l'empreinte dans le registre",
    "home echoed": "homeCommunityId renvoyé",
    "ids, mime types and bytes": "identifiants, types MIME et octets",
    "kept, or a warning": "conservé, ou un avertissement",
    "members of both folders": "les membres des deux classeurs",
    "members of the folder": "les membres du classeur",
    "no home": "pas de homeCommunityId",
    "no objects": "aucun objet",
    "no success before the crash": "pas de succès avant la panne",
    "nothing": "rien",
    "nothing at fault": "aucun défaut",
    "nothing leaked": "aucune fuite",
    "nothing under the merged id": "rien sous l'identifiant fusionné",
    "one Approved entry with an entryUUID": "une fiche Approved dotée d'un entryUUID",
    "one DICOM object": "un objet DICOM",
    "one Success": "un seul Success",
    "one empty RegistryObjectList": "une RegistryObjectList vide",
    "patientId of all": "le patientId de tous",
    "patientId of both": "le patientId des deux",
    "repositoryUniqueId replaced": "repositoryUniqueId remplacé",
    "repositoryUniqueId, hash and size in the registry": (
        "repositoryUniqueId, empreinte et taille dans le registre"
    ),
    "status, lid, version, objectType": "status, lid, version, objectType",
    "statuses of the children": "les statuts des documents dérivés",
    "statuses of the targets": "les statuts des cibles",
    "the RPLC association": "l'association RPLC",
    "the answer in MTOM": "la réponse en MTOM",
    "the association's documentation": "le code de l'association",
    "the document found": "le document retrouvé",
    "the entry under its UUID": "la fiche sous son UUID",
    "the first bytes retrieved": "les premiers octets récupérés",
    "the known document's bytes": "les octets du document connu",
    "the known instance alone": "l'instance connue seule",
    "the membership's own membership": "l'appartenance de l'appartenance",
    "the objects that fit": "les objets qui conviennent",
    "the others' error": "l'erreur des autres",
    "the same bytes": "les mêmes octets",
    "the same bytes retrieved": "les mêmes octets récupérés",
    "the same bytes, registered once after the restart": (
        "les mêmes octets, enregistrés une fois après la relance"
    ),
    "the three hashes in the registry": "les trois empreintes dans le registre",
    "the time of registration": "l'heure de l'enregistrement",
    "exactly": "exactement",
    "in MTOM": "en MTOM",
    "naming": "en nommant",
    "or": "ou",
    "with": "avec",
    "with warning": "avec l'avertissement",
    "within": "en moins de",
    "SOAP fault": "faute SOAP",
}


def say(phrase: str, language: Language) -> str:
    """``phrase`` in ``language``; in English where the table lacks it."""
    return PHRASES.get(phrase, phrase) if language == "fr" else phrase
