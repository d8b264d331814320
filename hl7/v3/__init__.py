"""Patient Identity Feed in HL7 v3, ITI-44 (ITI TF-2 3.44).

``request`` holds the three interactions (add, revise, merge), ``acknowledgement`` their answer
(MCCI_IN000002UV01), ``feed`` what they mean to a registry: the same ``hl7.adt.IdentityFeed`` as
ITI-8. Of the HL7 v3 NE2008 model only what the feed needs is here; how messages travel (SOAP) is
no business of this package.
"""
