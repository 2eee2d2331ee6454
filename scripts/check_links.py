#!/usr/bin/env python3
"""check_links PAGE...: every link of a Markdown page to a file of this repository, or to a heading, leads somewhere."""

import re
import sys
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that headings of `page` can be linked by."""
    headings = re.findall(r"^#+ +(.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """The links of `page` that lead nowhere."""
    bad = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            bad.append(link)
    return bad


def main() -> int:
    """0 when every link leads somewhere."""
    findings = [f"{page}: no target for {link}" for page in map(Path, sys.argv[1:]) for link in broken(page)]
    sys.stderr.writelines(line + "\n" for line in findings)
    return 1 if findings else 0


sys.exit(main())
