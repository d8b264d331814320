"""Content types as senders really write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soap.media import parse_media_type


@pytest.mark.parametrize(
    ("value", "name", "parameters"),
    [
        ("application/soap+xml", "application/soap+xml", {}),
        (" Application/SOAP+XML ; Charset = UTF-8 ", "application/soap+xml", {"charset": "UTF-8"}),
        (
            'a/b; action="urn:x;y=z"; q="a\\"b\\\\c";last=1',
            "a/b",
            {"action": "urn:x;y=z", "q": 'a"b\\c', "last": "1"},
        ),
        ("a/b; boundary=----=_Part(1)/2:3", "a/b", {"boundary": "----=_Part(1)/2:3"}),
        ("a/b; x=1; X=2; y=", "a/b", {"x": "1", "y": ""}),
        ('a/b; start="<a@b>"; start-info="c/d"', "a/b", {"start": "<a@b>", "start-info": "c/d"}),
        ("", "", {}),
        (";;;=", "", {}),
    ],
)
def test_a_content_type_is_read(value: str, name: str, parameters: dict[str, str]) -> None:
    media = parse_media_type(value)
    assert (media.name, dict(media.parameters)) == (name, parameters)


@given(st.text(max_size=100))
def test_nothing_escapes(value: str) -> None:
    assert isinstance(parse_media_type(value).name, str)
