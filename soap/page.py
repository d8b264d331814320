"""The page a person sees who opens a service's address in a browser, in English or French."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from soap.asgi import Headers
from soap.operation import Exchange

HEADERS: Headers = [
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"x-content-type-options", b"nosniff"),
    (b"vary", b"accept-language"),
]

_TEXTS = {
    "en": {
        "lead": "This address is a SOAP 1.2 web service. Programs send their requests "
        "here by POST.",
        "operations": "Operations",
        "number": "Transaction",
        "name": "Name",
        "wire": "Encoding",
        "action": "WS-Addressing action",
        "description": "Description of the service",
        "in_one": "in one file",
    },
    "fr": {
        "lead": "Cette adresse est un service web SOAP 1.2. Les programmes y envoient leurs "
        "requêtes par POST.",
        "operations": "Opérations",
        "number": "Transaction",
        "name": "Nom",
        "wire": "Codage",
        "action": "Action WS-Addressing",
        "description": "Description du service",
        "in_one": "en un seul fichier",
    },
}

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #ccc}"
    "code{font-size:.9em;overflow-wrap:anywhere}"
)


def choose_language(accepted: str) -> str:
    """The first language of an Accept-Language header that we speak, else English.

    Browsers list languages by falling preference, so weights need not be read.
    """
    for tag in accepted.lower().split(","):
        language = tag.strip()[:2]
        if language in _TEXTS:
            return language
    return "en"


def write_page(title: str, exchanges: Sequence[Exchange[Any, Any]], language: str) -> bytes:
    """The page of a service called ``title``."""
    texts = _TEXTS[language]
    head = "".join(f"<th>{texts[key]}</th>" for key in ("number", "name", "wire", "action"))
    rows = "".join(_row(exchange) for exchange in exchanges)
    return (
        f'<!DOCTYPE html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{texts['lead']}</p><h2>{texts['operations']}</h2>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f'<p>{texts["description"]}: <a href="?wsdl">WSDL</a>, '
        f'<a href="?singleWsdl">{texts["in_one"]}</a></p></body></html>'
    ).encode()


def _row(exchange: Exchange[Any, Any]) -> str:
    wire = "MTOM/XOP" if exchange.mtom else "SOAP"
    return (
        f"<tr><td>{escape(exchange.number)}</td><td>{escape(exchange.name)}</td>"
        f"<td>{wire}</td><td><code>{escape(exchange.action)}</code></td></tr>"
    )
