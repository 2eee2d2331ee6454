"""browse.py DIRECTORY: the site in DIRECTORY/html as a reader sees it, in headless Chromium at the width of a phone
and of a desk.

No page asks for another host, has an error of a script, or is wider than a phone. Of some pages of each kind, light
and dark: contrast as WCAG 2 AA wants it, by axe, and a screenshot in DIRECTORY/screenshots. The search leads from a
word to its page, from files alone.
"""

from __future__ import annotations

import base64
import shutil
import sys
import time
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/explain"))
from browser import Page, browser

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTHS = {"phone": (390, 844), "desk": (1440, 900)}
PATIENCE = 30.0  # seconds
SHOWN = (
    "index",
    "tutorial/3-definition-file",
    "running",
    "performance",
    "hpc/scale",
    "architecture",
    "reference/commands/exec",
    "reference/configuration",
    "search",
)
SEARCHES = {
    "setuid": "security",
    "mpirun": "hpc/mpi",
    "debootstrap": "definition-files",
    "sbatch": "tutorial/5-cluster",
}
WIDE = """(() => {
    const limit = document.documentElement.clientWidth + 1;
    const page = document.documentElement.scrollWidth > limit ? ['the page'] : [];
    const wide = [...document.querySelectorAll('article *')].filter(
        each => each.getBoundingClientRect().right > limit && !each.closest('pre, .table-wrapper'));
    return page.concat(wide.slice(0, 3).map(each => each.outerHTML.slice(0, 90)));
})()"""
CONTRAST = """axe.run(document, {runOnly: ['color-contrast']}).then(
    result => result.violations.flatMap(rule => rule.nodes.map(node => node.html.slice(0, 90))))"""


def show(page: Page, path: Path, width: str, *, dark: bool = False, query: str = "") -> None:
    """A page of the site, loaded."""
    across, down = WIDTHS[width]
    page.call("Emulation.setDeviceMetricsOverride", width=across, height=down, deviceScaleFactor=1, mobile=False)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.call("Emulation.setEmulatedMedia", features=[scheme, {"name": "prefers-reduced-motion", "value": "reduce"}])
    page.call("Page.navigate", url=path.as_uri() + query)
    wait(page, f"location.pathname === {str(path)!r} && document.readyState === 'complete'")


def wait(page: Page, condition: str) -> bool:
    """Whether an expression of the page has become true."""
    limit = time.monotonic() + PATIENCE
    while not page.run(condition):
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def narrow(page: Page, html: Path, names: list[str]) -> Iterator[str]:
    """Which pages are wider than a phone."""
    for name in names:
        show(page, html / f"{name}.html", "phone")
        yield from (f"{name}: wider than a phone: {each}" for each in page.run(WIDE))


def looked_at(page: Page, html: Path, pictures: Path) -> Iterator[str]:
    """What is wrong with some pages, at each width and in each theme, and their pictures."""
    axe = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    for name, width, dark in product(SHOWN, WIDTHS, (False, True)):
        theme = "dark" if dark else "light"
        show(page, html / f"{name}.html", width, dark=dark)
        yield from (f"{name}: wider than a {width}: {each}" for each in page.run(WIDE))
        if width == "desk":
            page.run(axe)
            yield from (f"{name}: too little contrast in {theme}: {each}" for each in page.run(CONTRAST)[:2])
        picture = base64.b64decode(page.call("Page.captureScreenshot")["data"])
        (pictures / f"{name.replace('/', '-')}-{width}-{theme}.png").write_bytes(picture)


def searched(page: Page, html: Path) -> Iterator[str]:
    """What the search does not find."""
    for word, wanted in SEARCHES.items():
        show(page, html / "search.html", "desk", query=f"?q={word}")
        if not wait(page, f"document.querySelector('#search-results a[href*=\"{wanted}.html\"]') !== null"):
            yield f"search: {word} does not lead to {wanted}"


def main(directory: Path) -> int:
    """0 when nothing is wrong, or there is no browser."""
    if shutil.which("chromium") is None:
        sys.stderr.write("No browser (package chromium): nobody has looked at the pages\n")
        return 0
    html, pictures = directory / "html", directory / "screenshots"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    found = (path for path in html.rglob("*.html") if "_static" not in path.parts)
    names = sorted(str(path.relative_to(html).with_suffix("")) for path in found)
    with browser() as page:
        wrong = [*narrow(page, html, names), *looked_at(page, html, pictures), *searched(page, html)]
        wrong += [f"a page asks for {url}" for url in page.requests if not url.startswith(("file:", "data:"))]
        wrong += page.complaints
    wrong = list(dict.fromkeys(wrong))
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    sys.stdout.write(f"{len(names)} pages looked at, {len(wrong)} findings; pictures in {pictures}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
