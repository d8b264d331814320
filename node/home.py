"""The page at ``/``: what this node offers, for a person with a browser, in English or French."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from soap.asgi import Receive, Scope, Send, header, respond
from soap.page import HEADERS, choose_language

TITLES = {
    "/registry": "Document Registry (ITI-18, ITI-42, ITI-51, ITI-57, ITI-61, ITI-62, ITI-92)",
    "/subscriptions": "Document Metadata Notification Broker (ITI-52, ITI-54, ITI-69, ITI-70)",
    "/repository": "Document Repository (ITI-41, ITI-43)",
    "/imaging": "Imaging Document Source (RAD-69)",
    "/dicomweb": "DICOMweb: QIDO-RS (RAD-129), WADO-RS (RAD-107), STOW-RS (RAD-108)",
    "/wado": "WADO-URI (RAD-55)",
}
LEADS = {
    "en": "A Kosmos node: IHE XDS-I.b. Each address below describes itself.",
    "fr": "Un nœud Kosmos : IHE XDS-I.b. Chaque adresse ci-dessous se décrit elle-même.",
}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}li{padding:.2rem 0}"
)


class Home:
    """The ASGI application of the page; ``paths`` are the endpoints of this node."""

    def __init__(self, name: str, paths: Iterable[str]) -> None:
        self._name = escape(name)
        self._paths = tuple(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] not in ("GET", "HEAD"):
            await respond(send, 405, b"", headers=[(b"allow", b"GET, HEAD")])
            return
        language = choose_language(header(scope, b"accept-language"))
        page = self._page(language).encode()
        await respond(send, 200, page, content_type="text/html; charset=utf-8", headers=HEADERS)

    def _page(self, language: str) -> str:
        items = "".join(
            f'<li><a href="{path}">{path}</a> {escape(TITLES[path])}</li>' for path in self._paths
        )
        return (
            f'<!DOCTYPE html><html lang="{language}"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{self._name}</title><style>{STYLE}</style></head><body>"
            f"<h1>{self._name}</h1><p>{LEADS[language]}</p><ul>{items}</ul></body></html>"
        )
