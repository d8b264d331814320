"""The data types of XDS metadata values (ITI TF-3 4.2.3.1.7, Table 4.2.3.1.7-2).

Each type is a ``str`` that keeps the sender's text exactly, offers its parts parsed on
demand, and says through ``problem()`` what is wrong with it (``None`` when valid). Nothing
raises on construction: a wrong value travels on until validation reports it. HL7 length
limits are not enforced (ITI TF-3 4.2.3.1.7 says so); the 256-character limit of a slot
value belongs to ``metadata.validation``.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import NamedTuple, Self

from metadata.identifiers import STUDY_INSTANCE_UID_REFERENCE, UNIQUE_ID_REFERENCE

# HL7 v2 escape sequences allowed in metadata values; all other uses of "\" are faults.
_ESCAPES = {"F": "|", "S": "^", "R": "~", "T": "&", "E": "\\"}
_UNESCAPE = re.compile(r"\\([FSRTE])\\")
_ESCAPE_TABLE = str.maketrans({char: f"\\{name}\\" for name, char in _ESCAPES.items()})

_UUID_URN = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_OID_LIMIT = 64  # ITI TF-3 4.2.3.1.7: the DICOM limit on UIDs


def is_uuid_urn(text: str) -> bool:
    """Whether ``text`` is a ``urn:uuid:`` in lower case, the only form that is not symbolic."""
    return _UUID_URN.fullmatch(text) is not None


def is_oid(text: str) -> bool:
    """Whether ``text`` is an OID of at most 64 characters."""
    return len(text) <= _OID_LIMIT and _OID.fullmatch(text) is not None


def new_uuid_urn() -> str:
    """A fresh random entryUUID."""
    return uuid.uuid4().urn


def new_oid() -> str:
    """A fresh OID below 2.25, the arc of UUIDs (ITU-T X.667); at most 44 characters."""
    return f"2.25.{uuid.uuid4().int}"


def escape(text: str) -> str:
    """``text`` as it must stand inside an HL7 v2 component."""
    return text.translate(_ESCAPE_TABLE)


def unescape(text: str) -> str:
    """The text that an HL7 v2 component stands for."""
    if "\\" not in text:
        return text
    return _UNESCAPE.sub(lambda match: _ESCAPES[match[1]], text)


class LocalizedString(str):
    """A text for people, in the language ``lang`` (BCP 47) if the sender named one.

    Compares as plain text: the language takes no part.
    """

    __slots__ = ("lang",)
    lang: str | None

    def __new__(cls, value: str, lang: str | None = None) -> Self:
        """A text and its language."""
        self = super().__new__(cls, value)
        self.lang = lang
        return self

    def problem(self) -> str | None:
        """What is wrong with the language tag; any text is right."""
        problem = None if self.lang is None else LanguageCode(self.lang).problem()
        return problem and f"xml:lang is {self.lang!r}, {problem}"


class OID(str):
    """An object identifier: digits and dots, no leading zeros, first arc 0 to 2."""

    __slots__ = ()

    def problem(self) -> str | None:
        """What is wrong with it."""
        if is_oid(self):
            return None
        if len(self) > _OID_LIMIT:
            return f"an OID has at most {_OID_LIMIT} characters, this one has {len(self)}"
        return "expected an OID such as 1.2.250.1.213 (digits and dots, no leading zeros)"


class DTM(str):
    """A point in time ``YYYY[MM[DD[hh[mm[ss]]]]]`` in UTC, without zone or fraction."""

    __slots__ = ()

    _FORM = re.compile(r"[0-9]{4}(?:[0-9]{2}){0,5}")
    _EARLIEST = "00000101000000"  # month and day start at 1, hours at 0

    @classmethod
    def of(cls, moment: datetime) -> Self:
        """``moment`` to the second; raises ValueError if it does not know its zone."""
        if moment.tzinfo is None:
            raise ValueError("a DTM needs a moment that knows its time zone")
        utc = moment.astimezone(UTC)  # strftime pads years below 1000 on some platforms only
        return cls(f"{utc.year:04}{utc:%m%d%H%M%S}")

    @property
    def precision(self) -> int:
        """The number of digits given: 4 for a year ... 14 for a second."""
        return len(self)

    def padded(self) -> str:
        """The 14 digits of the earliest second meant: sorts and compares as text."""
        return self + self._EARLIEST[len(self) :]

    def earliest(self) -> datetime:
        """The first moment meant; raises ValueError when there is a ``problem()``."""
        if self._FORM.fullmatch(self) is None:
            raise ValueError("not a DTM")
        return self._moment()

    def problem(self) -> str | None:
        """What is wrong with it, the calendar included."""
        if self._FORM.fullmatch(self) is None:
            return "expected a UTC time YYYY[MM[DD[hh[mm[ss]]]]], digits only"
        try:
            self._moment()
        except ValueError:
            return "no such date or time exists in the calendar"
        return None

    def _moment(self) -> datetime:
        d = self.padded()
        date = int(d[:4]), int(d[4:6]), int(d[6:8])
        return datetime(*date, int(d[8:10]), int(d[10:12]), int(d[12:]), tzinfo=UTC)


class HD(NamedTuple):
    """A hierarchic designator: who assigned an identifier; the type of an OID is ``ISO``."""

    namespace: str = ""
    universal_id: str = ""
    universal_id_type: str = ""

    @classmethod
    def parse(cls, component: str) -> HD:
        """The designator written in one component, ``namespace&id&type``."""
        namespace, oid, kind, *_ = f"{component}&&".split("&")
        return cls(unescape(namespace), unescape(oid), unescape(kind))

    @classmethod
    def of(cls, oid: str) -> HD:
        """The authority known by ``oid`` alone."""
        return cls("", oid, "ISO")

    def __str__(self) -> str:
        return "&".join(map(escape, self)).rstrip("&")

    def oid_problem(self) -> str | None:
        """What keeps it from being ``&OID&ISO``; a namespace beside the OID is not judged."""
        if self.universal_id_type != "ISO" or not is_oid(self.universal_id):
            return "the assigning authority must be &OID&ISO"
        return None


class _Composite(str):
    """A value of HL7 v2 components separated by ``^`` (ITI TF-3 4.2.3.1.7)."""

    __slots__ = ()

    def component(self, number: int) -> str:
        """Component ``number``, counted from 1, as sent; empty if absent."""
        parts = self.split("^")
        return parts[number - 1] if number <= len(parts) else ""

    def _parts(self, count: int) -> list[str]:
        parts = self.split("^")
        return parts + [""] * (count - len(parts))

    def _escape_problem(self) -> str | None:
        if "\\" in self and "\\" in _UNESCAPE.sub("", self):
            return "a backslash may only stand in the escapes \\F\\, \\S\\, \\R\\, \\T\\ and \\E\\"
        return None


class CX(_Composite):
    """A patient identifier ``id^^^&OID&ISO``."""

    __slots__ = ()

    @classmethod
    def of(cls, identifier: str, authority_oid: str) -> Self:
        """The identifier ``identifier`` assigned by the authority ``authority_oid``."""
        return cls(f"{escape(identifier)}^^^&{authority_oid}&ISO")

    @property
    def id(self) -> str:
        """The identifier itself."""
        return unescape(self.component(1))

    @property
    def assigning_authority(self) -> HD:
        """Who assigned it."""
        return HD.parse(self.component(4))

    def normalised(self) -> CX:
        """The same identifier without trailing empty components: equal when it means the same."""
        if self[-1:] not in ("^", "&") and "&^" not in self:
            return self
        return CX("^".join(part.rstrip("&") for part in self.split("^")).rstrip("^"))

    def problem(self) -> str | None:
        """What is wrong with it."""
        first, second, third, authority, *rest = self._parts(4)
        if not first or "&" in first:
            return "expected id^^^&OID&ISO with a non-empty id of one part"
        if second or third or any(rest):
            return "expected id^^^&OID&ISO with every other component empty"
        namespace, oid, kind, *more = (authority + "&&").split("&")
        if namespace or kind != "ISO" or not is_oid(oid) or any(more):
            return "the assigning authority must be &OID&ISO without a namespace"
        return self._escape_problem()


class CXi(_Composite):
    """A reference to something outside: ``id^^^authority^type`` (accession, order, study ...)."""

    __slots__ = ()

    # Types whose identifiers are globally unique and need no authority.
    _GLOBAL = frozenset({UNIQUE_ID_REFERENCE, STUDY_INSTANCE_UID_REFERENCE})

    @classmethod
    def of(cls, identifier: str, kind: str, authority: HD | None = None) -> Self:
        """The reference ``identifier`` of type ``kind``, with its authority if it has one."""
        return cls(f"{escape(identifier)}^^^{authority or ''}^{escape(kind)}")

    @property
    def id(self) -> str:
        """The identifier itself."""
        return unescape(self.component(1))

    @property
    def authority(self) -> HD:
        """Who assigned it; all parts empty for a globally unique identifier."""
        return HD.parse(self.component(4))

    @property
    def type(self) -> str:
        """What kind of thing is referred to (``urn:ihe:iti:xds:2013:accession`` ...)."""
        return unescape(self.component(5))

    def problem(self) -> str | None:
        """What is wrong with it. A sixth component, the home community, is allowed."""
        first, second, third, authority, kind, *_ = self._parts(5)
        if not first or second or third:
            return "expected id^^^authority^type with components 2 and 3 empty"
        if not kind:
            return "component 5, the type of reference, is missing"
        if not authority.strip("&"):
            unique = kind in self._GLOBAL or is_oid(first) or is_uuid_urn(first)
            return None if unique else "component 4, the authority, is missing and the id is local"
        if "&" in authority and (problem := HD.parse(authority).oid_problem()):
            return problem
        return self._escape_problem()


class XCN(_Composite):
    """A person ``id^last^first^middle^suffix^prefix^degree^^&OID&ISO``."""

    __slots__ = ()

    @property
    def id(self) -> str:
        """The person's identifier, possibly empty."""
        return unescape(self.component(1))

    @property
    def last_name(self) -> str:
        """The family name, possibly empty."""
        return unescape(self.component(2))

    @property
    def first_name(self) -> str:
        """The given name, possibly empty."""
        return unescape(self.component(3))

    @property
    def assigning_authority(self) -> HD:
        """Who assigned the identifier."""
        return HD.parse(self.component(9))

    def problem(self) -> str | None:
        """What is wrong with it; components after the ninth are not judged."""
        parts = self._parts(9)
        if not parts[0] and not parts[1]:
            return "a person needs an identifier (component 1) or a last name (component 2)"
        if parts[8].strip("&") and (problem := HD.parse(parts[8]).oid_problem()):
            return f"component 9: {problem}"
        return self._escape_problem()


class XON(_Composite):
    """An organisation ``name^^^^^&OID&ISO^^^^id``."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The organisation's name."""
        return unescape(self.component(1))

    @property
    def assigning_authority(self) -> HD:
        """Who assigned the identifier."""
        return HD.parse(self.component(6))

    @property
    def id(self) -> str:
        """The organisation's identifier, possibly empty."""
        return unescape(self.component(10))

    def problem(self) -> str | None:
        """What is wrong with it: only components 1, 6.2, 6.3 and 10 may be used."""
        name, *unused, authority, seven, eight, nine, identifier = self._parts(10)[:10]
        if not name:
            return "an organisation needs a name (component 1)"
        if any((*unused, seven, eight, nine, *self._parts(10)[10:])):
            return "only components 1, 6 and 10 of an organisation may be filled"
        if identifier and not is_oid(identifier) and not authority.strip("&"):
            return "component 10 is not an OID, so component 6 must name its authority, &OID&ISO"
        if authority.strip("&") and (problem := HD.parse(authority).oid_problem()):
            return f"component 6: {problem}"
        return self._escape_problem()


class XTN(_Composite):
    """A telephone ``^^PH^^33^1^55512345`` or a mail address ``^NET^Internet^user@host``."""

    __slots__ = ()

    _MAIL = frozenset({"Internet", "X.400"})  # HL7 table 0202: equipment that is an address

    @property
    def use(self) -> str:
        """The use code (HL7 table 0201: PRN, WPN, NET ...), possibly empty."""
        return self.component(2)

    @property
    def equipment(self) -> str:
        """The equipment type (HL7 table 0202: PH, FX, CP, Internet ...)."""
        return self.component(3)

    @property
    def address(self) -> str:
        """The mail address, for equipment Internet and X.400."""
        return unescape(self.component(4))

    @property
    def number(self) -> str:
        """The local telephone number."""
        return unescape(self.component(7))

    def problem(self) -> str | None:
        """What is wrong with it."""
        parts = self._parts(8)
        if parts[0] or not parts[2]:
            return "expected component 1 empty and component 3 the equipment (PH, CP, Internet ...)"
        if parts[2] in self._MAIL:
            return self._escape_problem() if parts[3] else "component 4, the address, is missing"
        if parts[3]:
            return "component 4, an address, is only for equipment Internet or X.400"
        if not parts[6]:
            return "component 7, the local telephone number, is missing"
        return self._escape_problem()


class Recipient(str):
    """Whom a submission is meant for: ``organisation|person|telecommunication``."""

    __slots__ = ()

    def _part(self, index: int) -> str | None:
        parts = self.split("|")
        return parts[index] if index < len(parts) and parts[index] else None

    @property
    def organization(self) -> XON | None:
        """The organisation, if named."""
        part = self._part(0)
        return None if part is None else XON(part)

    @property
    def person(self) -> XCN | None:
        """The person, if named."""
        part = self._part(1)
        return None if part is None else XCN(part)

    @property
    def telecom(self) -> XTN | None:
        """Where to reach them, if said."""
        part = self._part(2)
        return None if part is None else XTN(part)

    def problem(self) -> str | None:
        """What is wrong with it: at least one part, each valid of its type."""
        if not self.strip("|") or self.count("|") > 2:
            return "expected organisation|person|telecommunication, at least one of them"
        for part in (self.organization, self.person, self.telecom):
            if part is not None and (problem := part.problem()):
                return problem
        return None


class LanguageCode(str):
    """A language tag well-formed by BCP 47 (RFC 5646 section 2.1), such as ``fr-CH``."""

    __slots__ = ()

    # The irregular grandfathered tags; the regular ones match the general form.
    _IRREGULAR = re.compile(
        r"en-gb-oed|sgn-(?:be-fr|be-nl|ch-de)"
        r"|i-(?:ami|bnn|default|enochian|hak|klingon|lux|mingo|navajo|pwn|tao|tay|tsu)",
        re.IGNORECASE | re.ASCII,
    )
    _FORM = re.compile(
        r"""(?:[a-z]{2,3}(?:-[a-z]{3}){0,3} | [a-z]{4,8})    # language, extended language
            (?:-[a-z]{4})?                                   # script
            (?:-(?:[a-z]{2}|[0-9]{3}))?                      # region
            (?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*         # variants
            (?:-[a-wy-z0-9](?:-[a-z0-9]{2,8})+)*             # extensions
            (?:-x(?:-[a-z0-9]{1,8})+)?                       # private use
            | x(?:-[a-z0-9]{1,8})+""",
        re.VERBOSE | re.IGNORECASE | re.ASCII,
    )

    def problem(self) -> str | None:
        """What is wrong with it."""
        if self._FORM.fullmatch(self) or self._IRREGULAR.fullmatch(self):
            return None
        return "expected a language tag of RFC 5646, such as fr-FR or de-CH"
