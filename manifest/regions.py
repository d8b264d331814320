"""Anatomic regions (DICOM PS3.16 CID 4): from Body Part Examined to what an eventCodeList says.

The regions are the ten SNOMED CT codes that IHE's imaging profiles agree on for searching
(RAD MADO, value set IHE-MADO1), which France uses too. Covers the defined terms of PS3.16
Annex L that lie in one region alone; of any other term nothing is said, for a region that is
missing is found by other means and one that is wrong hides the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from metadata.datatypes import LocalizedString
from metadata.model import Code

SNOMED_CT = "2.16.840.1.113883.6.96"

# Code, English name, and the values of Body Part Examined (0018,0015) in that region.
_REGIONS = (
    (
        "63337009",
        "Abdominopelvic segment of trunk",
        "ABDOMEN ABDOMENPELVIS PELVIS LIVER GALLBLADDER SPLEEN PANCREAS STOMACH KIDNEY BLADDER"
        " COLON RECTUM PROSTATE UTERUS OVARY",
    ),
    ("38266002", "Entire body", "WHOLEBODY"),
    (
        "53120007",
        "Upper limb",
        "ARM SHOULDER HUMERUS ELBOW FOREARM RADIUS ULNA WRIST HAND FINGER THUMB UPRARM EXTREMUPPER",
    ),
    (
        "61685007",
        "Lower limb",
        "LEG THIGH FEMUR KNEE PATELLA TIBIA FIBULA CALF ANKLE FOOT CALCANEUS TOE EXTREMLOWER",
    ),
    ("67734004", "Thoracic segment of trunk", "CHEST THORAX LUNG MEDIASTINUM RIB STERNUM"),
    (
        "774007",
        "Head and neck",
        "HEAD HEADNECK NECK BRAIN SKULL FACE ORBIT EYE EAR NOSE SINUS JAW MANDIBLE MAXILLA ZYGOMA"
        " PITUITARY THYROID LARYNX TONGUE",
    ),
    ("113257007", "Cardiovascular system", "AORTA"),
    ("80891009", "Heart", "HEART"),
    ("76752008", "Breast", "BREAST"),
    (
        "737561001",
        "Spine and/or spinal cord",
        "SPINE CSPINE TSPINE LSPINE SSPINE CTSPINE TLSPINE LSSPINE COCCYX SACRUM",
    ),
)

ANATOMIC_REGIONS: Mapping[str, Code] = MappingProxyType(
    {
        term: Code(code, SNOMED_CT, LocalizedString(name))
        for code, name, terms in _REGIONS
        for term in terms.split()
    }
)
"""The region of each value of Body Part Examined."""
