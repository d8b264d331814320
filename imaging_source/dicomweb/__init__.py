"""DICOMweb, the origin server (PS3.18): QIDO-RS and WADO-RS over what the source has stored.

``DicomWeb`` is the ASGI application; everything below it is plain functions that give an
``Answer`` or raise a ``Refusal``.
"""

from imaging_source.dicomweb.application import DicomWeb

__all__ = ["DicomWeb"]
