"""Whatever is put into XML comes out as it was, save what XML cannot carry."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from transactions.body import escape_attribute, escape_text

_SPECIAL = st.sampled_from(
    "&<>\"'\t\n\r\x00\x08\x0b\x1f\ud800\udfff\ufffe\uffff\N{NO-BREAK SPACE}a"
)


def as_xml_has_it(value: str) -> str:
    """``value`` by XML 1.0, 2.2."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", value)


@given(st.text(st.characters() | _SPECIAL))
@example("")
@example("plain")
@example("tab\tand line\r\n")
@example("]]>")
def test_a_text_comes_out_as_it_was(value: str) -> None:
    xml = f'<a b="{escape_attribute(value)}">{escape_text(value)}</a>'
    read = etree.fromstring(xml.encode())
    assert read.get("b") == as_xml_has_it(value)
    assert (read.text or "") == as_xml_has_it(value)
