"""Who may see what: the database of choices, and the decision (``decision``)."""
