"""The coded concepts of MADO manifests (IHE RAD MADO, DICOM CP-2595), as data.

Most concepts of the Image Library (PS3.16 TID 1600) have codes in DCM. Those that CP-2595
adds have none before it is final: IHE names the title (MADOTEMP001, 99IHE); for the others,
whose provisional codes are not public, a code of this project's own scheme is written, with
the meaning that the supplement gives it. A reader takes a concept by any code listed here,
and one of a private scheme (99...) by its meaning too, whatever the case. When the codes are final,
each becomes the first of its row, and the provisional one stays for old manifests.
"""

from __future__ import annotations

from enum import Enum

from manifest.model import Concept


class Known(Enum):
    """A concept: the code that is written first, further codes that are read after it."""

    TITLE = (Concept("MADOTEMP001", "99IHE", "Manifest with Description"),)
    IMAGE_LIBRARY = (Concept("111028", "DCM", "Image Library"),)
    IMAGE_LIBRARY_GROUP = (Concept("126200", "DCM", "Image Library Group"),)
    MODALITY = (Concept("121139", "DCM", "Modality"),)
    TARGET_REGION = (Concept("123014", "DCM", "Target Region"),)
    SERIES_COUNT = (Concept("SERIESCOUNT", "99KOSMOS", "Number of Study Related Series"),)
    SERIES_UID = (Concept("112002", "DCM", "Series Instance UID"),)
    SERIES_DATE = (Concept("SERIESDATE", "99KOSMOS", "Series Date"),)
    SERIES_TIME = (Concept("SERIESTIME", "99KOSMOS", "Series Time"),)
    SERIES_DESCRIPTION = (Concept("SERIESDESC", "99KOSMOS", "Series Description"),)
    SERIES_NUMBER = (Concept("113607", "DCM", "Series Number"),)
    INSTANCE_COUNT = (Concept("INSTANCECOUNT", "99KOSMOS", "Number of Series Related Instances"),)
    INSTANCE_NUMBER = (Concept("113609", "DCM", "Instance Number"),)
    FRAME_COUNT = (Concept("121140", "DCM", "Number of Frames"),)

    @property
    def written(self) -> Concept:
        """The code that is written."""
        concept: Concept = self.value[0]
        return concept


_BY_CODE = {(one.scheme, one.code): known for known in Known for one in known.value}
_BY_MEANING = {one.meaning.casefold(): known for known in Known for one in known.value}


def recognised(concept: Concept) -> Known | None:
    """Which concept a code stands for, if one of those above."""
    found = _BY_CODE.get((concept.scheme, concept.code))
    if found is None and concept.scheme.startswith("99"):
        found = _BY_MEANING.get(concept.meaning.casefold())
    return found


# TID 1601 descriptors count in "no units" (UCUM 1).
NO_UNITS = Concept("1", "UCUM", "no units")
