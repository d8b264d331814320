"""What an instance says of itself, as DICOM JSON, and where its bulk data and frames lie.

Made once from the stored file (``describe``), kept compressed in the table ``description`` by the
background thread of ``worker``, and served without opening the file again.
"""
