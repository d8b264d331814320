"""What cases expect, in French: the phrases that are not terms of the standard.

Expectations are written in English where a case is written; here is each phrase once more. A
test keeps the table complete.
"""

from __future__ import annotations

from conformance.text import Language

PHRASES = {
    "Action, mustUnderstand, RelatesTo": "Action, mustUnderstand, RelatesTo",
    "CA for both additions": "CA pour les deux ajouts",
    "CA for the revision": "CA pour la révision",
    "CE for a wrong message": "CE pour un message erroné",
    "the id of the request": "l'identifiant de la requête",
    "the document moved": "le document déplacé",
    "the other document": "l'autre document",
    "CA for the merge": "CA pour la fusion",
    "CE for a merge with itself": "CE pour une fusion avec soi-même",
    "a later time": "une heure plus tardive",
    "both entries": "les deux fiches",
    "both patients' documents": "les documents des deux patients",
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
    "patientId and sourcePatientId of what moved": (
        "patientId et sourcePatientId de ce qui a bougé"
    ),
    "patientId of the document": "le patientId du document",
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
    "everything": "tout",
    "the latest alone": "seulement le plus récent",
    "UnsubscribeResponse": "UnsubscribeResponse",
    "everything missed, in order": "tout ce qui a été manqué, dans l'ordre",
    "told alone who stayed": "averti seul celui qui reste",
    "topic and subscription": "le sujet et l'abonnement",
    "what fits the filter": "ce qui convient au filtre",
    "what the topic tells, once, in order": "ce que dit le sujet, une fois, dans l'ordre",
    "what was published": "ce qui a été publié",
    "everything submitted": "tout ce qui a été soumis",
    "status and version": "le statut et la version",
    "status and version of the old one": "le statut et la version de l'ancienne",
    "status, version, lid, title of the new version": (
        "le statut, la version, le lid et le titre de la nouvelle version"
    ),
    "the association": "l'association",
    "the code": "le code",
    "the document": "le document",
    "the entryUUID": "l'entryUUID",
    "the instance": "l'instance",
    "the new version": "la nouvelle version",
    "the object": "l'objet",
    "the parameter": "le paramètre",
    "the patient": "le patient",
    "the query": "la requête",
    "the slot": "le Slot",
    "the uniqueId": "le uniqueId",
    "what breaks the rule": "ce qui enfreint la règle",
    "the addendum's target": "la cible de l'addendum",
    "the corrected values": "les valeurs corrigées",
    "the first version alone": "la première version seule",
    "the links of the new version": "les liens de la nouvelle version",
    "the new status": "le nouveau statut",
    "the old status": "l'ancien statut",
    "with the new patient alone": "chez le nouveau patient seul",
    "Approved still": "toujours Approved",
    "On-Demand ones alone": "seulement les On-Demand",
    "Stable ones alone": "seulement les Stable",
    "one NewDocumentUniqueId, another than asked for": (
        "un NewDocumentUniqueId, autre que celui demandé"
    ),
    "one Stable snapshot of the entry": "un instantané Stable de la fiche",
    "the action in the Content-Type": "l'action dans le Content-Type",
    "the same bytes under the same uniqueId": "les mêmes octets sous le même uniqueId",
    "type, and no creationTime, hash, size": "le type, et ni creationTime, ni hash, ni size",
    "exactly": "exactement",
    "and": "et",
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
