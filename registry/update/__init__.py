"""Changes by administrators: Metadata Update (ITI-57) and its restricted form (ITI-92).

``operations`` reads what a message asks for, ``state`` looks up and locks what the registry
holds of it, ``rules`` judges, ``plan`` works out what will be, ``updater`` does it.
"""

from registry.update.updater import Updater

__all__ = ["Updater"]
