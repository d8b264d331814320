"""Where bytes and rows are kept durably: blobs on disk, databases, migrations.

This room knows nothing of health care and imports nothing of ours: it takes bytes and
statements, and returns only when what it was given would survive a power cut.
"""
