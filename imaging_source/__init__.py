"""The Imaging Document Source: takes images in, indexes them, publishes and serves them.

Covers the DICOM Storage SCP (PS3.4 Annex B), query and retrieve (Annex C; RAD-14, RAD-16),
storage commitment (Annex J), MPPS and IAN as receiver, RAD-68 (sender) and RAD-69 (responder).
Not here: DICOMweb, transcoding.
"""
