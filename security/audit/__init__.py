"""The audit trail (ITI-20): kept, chained, proved, searched, sent and received."""
