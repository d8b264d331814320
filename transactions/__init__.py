"""The doors of the house: one module for each IHE transaction, named by its number.

Each module says what is asked and what is answered, how both look on the wire and what the
audit trail says of it: ``iti_8`` (audit only), ``iti_18``, ``iti_41``, ``iti_42``,
``iti_43``, ``iti_57``, ``iti_62``, ``iti_92``, ``rad_68``, ``rad_69``. Nothing in this package
does I/O.
"""
