"""The conformance kit: drives any vendor's XDS and XDS-I.b actors over the wire.

    cases, targets -> run -> results -> report (JUnit, JSON evidence, one HTML page)

A case says what it sends and what must come back, the reason included. The kit knows only
endpoints and the few agreements of the affinity domain (``targets``); all data it sends is
made up for the run. ``conformance.run`` is the way in.
"""
