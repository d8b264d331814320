"""Query and retrieve over DIMSE, the provider (PS3.4 Annex C): C-FIND, C-MOVE and C-GET.

Covers the Patient Root and Study Root models at all their levels, answered from the index; an
instance that was rejected does not exist here. Not here: relational queries (the unique keys
above the level must be given), combined date and time, fuzzy names, worklists.
"""
