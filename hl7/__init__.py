"""HL7 version 2 on the wire: messages, acknowledgements, MLLP, the patient identity feed."""
