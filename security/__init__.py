"""Security of a node: its identity and the TLS contexts made from it (ITI-19)."""
