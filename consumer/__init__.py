"""The Document Consumer and the Imaging Document Consumer: find, fetch and open.

``consumer.client.Consumer`` is all a caller needs (ITI-18, ITI-43, RAD-69); what can go
wrong is in ``consumer.errors``, what fetching images tells in ``consumer.report``.
"""
