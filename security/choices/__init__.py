"""What patients have decided about who sees their documents, and what operators know of them."""
