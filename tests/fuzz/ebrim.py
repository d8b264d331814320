"""ebRIM that is well-formed and wrong: a good registration, changed as the bytes say."""

from metadata.affinity_domain import AffinityDomain
from metadata.datatypes import HD
from metadata.ebrim import write_objects
from metadata.validation import validate_submission
from soap.faults import InvalidBody
from tests.fuzz.changing import changed, scripts
from tests.fuzz.samples import submission
from tests.fuzz.target import Target
from transactions.iti_42 import SubmitObjectsRequest

_DOMAIN = AffinityDomain(HD.of("1.2.3"))
_GOOD = SubmitObjectsRequest.of(submission()).element


def read(data: bytes) -> None:
    """Read, judge and write what the registration has become."""
    registered = SubmitObjectsRequest(changed(_GOOD, data)).submission
    for fault in validate_submission(registered, _DOMAIN):
        fault.error("ITI-42")
    list(write_objects(registered))


TARGET = Target("ebrim", read, (InvalidBody,), scripts, 2_000)
