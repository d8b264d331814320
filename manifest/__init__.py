"""Imaging manifests: DICOM Key Object Selection documents and the XDS entries that announce them.

Pure: nothing here reads a file, a clock or a socket. Covers RAD TF-3 4.68 (XDS-I.b). MADO
manifests are read (what they say beyond XDS-I.b is passed over), not written.
"""
