"""One module for each version of the audit trail's schema."""
