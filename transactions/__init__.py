"""The doors of the house: one module for each IHE transaction, named by its number.

Each module says what is asked and what is answered, how both look on the wire and what the audit
trail says of it; of messages of HL7 v2 the last alone (``iti_8``, ``iti_9``, ``iti_64``,
``rad_28``). Nothing in this package does I/O.
"""
