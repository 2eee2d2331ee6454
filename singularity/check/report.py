"""The report of a check, or of the doctor: a table for people, a document for programs."""

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from singularity.check.finding import Finding, Verdict, fails
from singularity.console import escape

_HEADINGS = ("WHAT", "FOUND", "NEEDED", "VERDICT")
_COLOURS = {Verdict.OK: "\033[32m", Verdict.WARNING: "\033[33m", Verdict.FAILS: "\033[31m"}
_PLAIN = "\033[0m"
_COLUMN = 44  # the widest that a column but the last becomes


def document(findings: Sequence[Finding], **about: object) -> str:
    """As JSON, with what it is `about`."""
    found = {
        **about,
        "fails": fails(findings),
        "findings": [
            {**asdict(each), "subject": each.subject.value, "verdict": each.verdict.value} for each in findings
        ],
    }
    return json.dumps(found, indent=2) + "\n"


def table(
    findings: Sequence[Finding], *, colour: bool, ends: tuple[str, str] = ("Nothing would fail", "would fail")
) -> str:
    """As a table; what to do about a line stands below it. Foreign names are escaped (security requirement P3).

    `ends` are what the last line says where nothing fails, and behind the number of what does.
    """
    rows = [tuple(map(escape, (each.what, each.found, each.needed))) for each in findings]
    widths = [max(len(_cut(row[at])) for row in [_HEADINGS[:3], *rows]) for at in range(3)]
    lines = ["  ".join([*(f"{_HEADINGS[at]:<{widths[at]}}" for at in range(3)), _HEADINGS[3]])]
    for each, row in zip(findings, rows, strict=True):
        lines += _rows(each, row, widths, colour=colour)
    return "\n".join([*lines, "", _end(findings, *ends)]) + "\n"


def _rows(finding: Finding, row: Sequence[str], widths: Sequence[int], *, colour: bool) -> Iterator[str]:
    verdict = finding.verdict.value
    if colour:
        verdict = f"{_COLOURS[finding.verdict]}{verdict}{_PLAIN}"
    wrapped = [textwrap.wrap(text, _COLUMN) or [""] for text in row]
    for number in range(max(map(len, wrapped))):
        cells = (part[number] if number < len(part) else "" for part in wrapped)
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        yield f"{line}  {verdict}" if number == 0 else line.rstrip()
    width = max(60, min(120, shutil.get_terminal_size().columns)) - 4
    yield from (f"    {line}" for line in textwrap.wrap(escape(finding.advice), width))


def _cut(text: str) -> str:
    return text[:_COLUMN]


def _end(findings: Sequence[Finding], nothing: str, failing: str) -> str:
    count = sum(each.verdict is Verdict.FAILS for each in findings)
    warnings = sum(each.verdict is Verdict.WARNING for each in findings)
    said = f"{count} {failing}" if count else nothing
    return f"{said}{f', {warnings} to look at' if warnings else ''}."
