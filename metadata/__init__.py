"""The common tongue of the house: the XDS information model, its wire form and its rules.

Covers ITI TF-3 4.1 to 4.3. Pure: nothing in this package does I/O, and nothing of ours is
imported here. Start with ``model`` (what there is), then ``attributes`` (how each attribute
travels), ``ebrim`` (reading and writing) and ``catalogue`` (every rule and its error codes).
"""
