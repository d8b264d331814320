"""The node: configuration, wiring, supervisor, command line, health, logs."""
