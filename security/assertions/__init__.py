"""User assertions (ITI-40, XUA): who is asking, by a SAML token that a trusted issuer has signed.

There is one way in, ``verifier.Verifier``; what it gives are ``claims.Claims``, read from the
signed copy alone. ``issuing`` makes tokens, for a node's own commands and for tests.
"""
