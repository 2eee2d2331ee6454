"""Whether a registry can be reached, and whether its clock and ours agree."""

import email.utils
import time
from collections.abc import Iterator

from singularity.check.finding import Finding, Subject
from singularity.doctor.finding import good, lacking
from singularity.errors import NetworkError
from singularity.registry import mirrors
from singularity.web.http import Client, Patience

_PATIENCE = Patience(connect=5, stall=5, delays=())
_APART = 300  # seconds, beyond which tokens and signatures of others are not valid yet, or no more


def judge(host: str) -> Iterator[Finding]:
    """The registry `host`, as a pull asks it first; no login is used."""
    place = mirrors.places(host, "", by_digest=False, no_https=False, pull=False)[-1]
    url = f"https://{place.api_host}/v2/"
    what = f"registry {host}"
    try:
        with Client(_PATIENCE).send("GET", url, accept=(200, 401), again=False) as answer:
            status, date = answer.status, answer.headers.get("Date", "")
    except NetworkError as error:
        advice = (
            error.hint or "see the network and the proxy: https_proxy=http://HOST:PORT, or registries.conf for a mirror"
        )
        yield lacking(Subject.NETWORK, what, error.what, "an answer", advice)
        return
    if status in (200, 401):
        yield good(Subject.NETWORK, what, "answers", "an answer")
    else:
        yield lacking(Subject.NETWORK, what, f"status {status}", "200 or 401", "no registry, or a proxy that says no")
    yield from _clock(host, date)


def _clock(host: str, date: str) -> Iterator[Finding]:
    try:
        theirs = email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return
    apart = round(time.time() - theirs)
    found = f"{abs(apart)} s {'ahead' if apart > 0 else 'behind'}"
    if abs(apart) > _APART:
        yield lacking(Subject.NETWORK, f"clock beside {host}", found, f"at most {_APART} s", "timedatectl set-ntp true")
    else:
        yield good(Subject.NETWORK, f"clock beside {host}", found, f"at most {_APART} s")
