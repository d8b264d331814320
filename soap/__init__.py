"""SOAP 1.2 and MTOM on the wire: both ends, knowing nothing of what is said."""
