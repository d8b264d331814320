"""Registering submissions by the thousand, as when another vendor's registry is migrated.

What ITI-42 would store is stored, by the functions of ITI-42 itself, and what ITI-42 would
refuse is refused (ITI TF-2 3.42.4.1.3). Submissions are read, judged and rendered in helper
processes (``preparation``); one process judges them by the registry's state and writes many
in one transaction (``loader``). No message is answered, no audit record written and no subscriber
told: who loads is an operator with the database in hand, and what he loads is not new.
"""

from registry.bulk.loader import Loaded, Loader, Told
from registry.bulk.preparation import Source, helpers

__all__ = ["Loaded", "Loader", "Source", "Told", "helpers"]
