"""The cases, by the actor they test."""
