"""One module for each version of the repository's schema."""
