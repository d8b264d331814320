"""The Imaging Document Source: takes images in, indexes them, publishes and serves them.

Covers the DICOM Storage SCP (PS3.4 Annex B), RAD-68 (sender) and RAD-69 (responder). Not
here: DICOMweb, query/retrieve over DIMSE, storage commitment, transcoding.
"""
