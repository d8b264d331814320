"""What the content of a manifest must be: each rule separately, for manifests of any maker.

Covers RAD TF-3 4.68.4.1.2 (XDS-I.b) and IHE RAD MADO in both forms, with DICOM PS3.3 and
PS3.16. A rule says what is wrong in words that name no patient. Whether the instances can be
retrieved is not judged here, nor the DICOM encoding as such: dciodvfy and dsrdump do that,
for XDS-I.b.
"""
