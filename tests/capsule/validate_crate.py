"""The validator of RO-Crate (roc-validator of PyPI) on a directory, without a network: `DIR SEVERITY`.

What it would fetch are two JSON-LD contexts. That of RO-Crate is the file that ro-crate-py brings, of a later version
that has all terms of 1.1; that of Workflow Run RO-Crate is imitated here by the terms that the profile's shapes name.
"""

from __future__ import annotations

import io
import json
import sys
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import rdflib.parser
from rocrate_validator import models, services
from rocrate_validator.utils import http

TERMS = "https://w3id.org/ro/terms/workflow-run"
NAMES = (
    "ContainerImage",
    "DockerImage",
    "SIFImage",
    "containerImage",
    "environment",
    "resourceUsage",
    "registry",
    "tag",
    "sha256",
    "md5",
)
KIND = {"Content-Type": "application/ld+json"}
CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": (files("rocrate") / "data" / "ro-crate.jsonld").read_text(),
    f"{TERMS}/context": json.dumps({"@context": {name: f"{TERMS}#{name}" for name in NAMES}}),
}


def urlopen(request: Any) -> Any:
    """Of rdflib."""
    body = io.BytesIO(CONTEXTS[request.full_url].encode())
    return SimpleNamespace(read=body.read, close=body.close, geturl=lambda: request.full_url, headers=KIND)


def get(self: object, url: str, **more: object) -> Any:
    """Of the validator's."""
    del self, more
    text = CONTEXTS[url]
    return SimpleNamespace(status_code=200, headers=KIND, text=text, json=lambda: json.loads(text))


def main(crate: str, severity: str) -> int:
    rdflib.parser._urlopen = urlopen  # type: ignore[assignment]
    http.HttpRequester.get = get  # type: ignore[method-assign]
    settings = services.ValidationSettings(
        rocrate_uri=models.URI(crate),
        profile_identifier="process-run-crate-0.5",
        requirement_severity=models.Severity[severity],
        skip_availability_check=True,
    )
    result = services.validate(settings)
    for issue in result.get_issues():
        sys.stdout.write(f"{issue.severity.name} {issue.check.identifier}: {issue.message}\n")
    sys.stdout.write(f"{len(result.executed_checks)} checks\n")
    return int(bool(result.has_issues()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
