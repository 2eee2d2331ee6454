"""The page that shows an image: one HTML file with its style, its script and its data, which asks nobody for anything.

Names and texts of an image may be anything. They are in the page as JSON alone, in an element that browsers do not run,
without a letter that could end it; the script makes text of them and never markup. A policy in the page lets nothing
run or load but what is named by its digest.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

_FILES = files("singularity.explain").joinpath("page")
_ESCAPED = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def html(data: Mapping[str, Any]) -> bytes:
    """The whole page."""
    style, script = (_FILES.joinpath(name).read_text("utf-8") for name in ("view.css", "view.js"))
    said = json.dumps(data, ensure_ascii=True, separators=(",", ":")).translate(_ESCAPED)
    page = _FILES.joinpath("view.html").read_text("utf-8")
    for name, text in (("STYLE", style), ("SCRIPT", script), ("POLICY", policy(style, script)), ("DATA", said)):
        page = page.replace(f"@{name}@", text, 1)  # the data last: what it holds is not looked at again
    return page.encode()


def policy(style: str, script: str) -> str:
    """What a browser may run and load: this style, this script, and nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
