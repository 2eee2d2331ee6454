"""assemble.py DIRECTORY: the site, in DIRECTORY/html, from the pages of docs/, those beside README and what
`reference.py` makes.

Pages stay as a forge shows them: they are copied to DIRECTORY/pages, links that leave docs/ are made to lead to the
copies, and Sphinx, which takes each warning for an error, makes HTML of them. A page that stands nowhere in NAVIGATION
comes last.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import reference
from sphinx.cmd.build import main as sphinx

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
DOCS = CHECKOUT / "docs"
BESIDE_README = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(\]\()([^)\s:#]+)((?:#[^)\s]*)?\))")
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)

# Captions of the sidebar, and the pages below them; a pattern takes what is there and stands nowhere else.
NAVIGATION = {
    "Tutorial": ("tutorial/*",),
    "Run": ("running", "instances", "restrictions", "lazy", "installing-programs", "view", "capsules", "contents"),
    "Build": (
        "building", "locked-builds", "definition-files", "dockerfiles", "bootstrap-agents", "conversion", "images",
        "sif", "oci", "base-and-layer", "slim-images", "archives", "ext-images",
    ),
    "Share and trust": ("registries", "pushing", "chunks", "zenodo", "signing", "encryption", "policies"),
    "Python": ("python", "python*"),
    "On a cluster": ("hpc/README", "hpc/slurm", "hpc/mpi", "hpc/gpu", "hpc/fabrics", "hpc/shared-container", "hpc/*"),
    "Install and administer": ("installation", "administrator", "fakeroot", "security"),
    "Coming from": ("coming-from/*", "compatibility"),
    "Reference": ("reference/*", "events"),
    "How it works": ("concepts", "architecture", "formats", "performance", "dependencies"),
    "The project": ("CHANGELOG", "CONTRIBUTING", "SECURITY"),
    "More": ("*", "*/*"),
}  # fmt: skip
TITLES = {  # where the page's own would be long in the sidebar
    "CHANGELOG": "Release notes",
    "hpc/README": "Overview",
    "coming-from/README": "Overview",
    "images": "Images of version 2",
    "sif": "SIF files",
    "oci": "Docker and OCI images",
    "bootstrap-agents": "Bootstrap agents",
    "restrictions": "Restrictions",
    "lazy": "Lazy starts",
    "conversion": "Conversion",
    "dockerfiles": "Dockerfiles",
    "CONTRIBUTING": "Contributing",
    "dependencies": "Dependencies",
    "hpc/check": "Checks before a job",
    "archives": "Archives",
    "ext-images": "Writable ext3 images",
}


def staged(target: Path) -> Path:
    """Where a file of the checkout lies among the pages."""
    if target.is_relative_to(DOCS):
        return target.relative_to(DOCS)
    if target == CHECKOUT / "README.md":
        return Path("index.md")
    return target.relative_to(CHECKOUT) if target.name in BESIDE_README else Path("files", target.relative_to(CHECKOUT))


def relocated(text: str, source: Path, pages: Path) -> str:
    """A page's text with links that lead on from where it lies among the pages; files that it links to are copied.

    What comments tell the tests of it (tests/pages) is left out.
    """

    def one(link: re.Match[str]) -> str:
        target = (source.parent / link[2]).resolve()
        place = staged(target)
        if place.parts[0] == "files" and target.is_file():
            (pages / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target, pages / place)
        return f"{link[1]}{os.path.relpath(place, staged(source).parent)}{link[3]}"

    parts = CODE.split(re.sub(r"<!-- run: .*?-->\n", "", text, flags=re.DOTALL))
    return "".join(part if number % 2 else LINK.sub(one, part) for number, part in enumerate(parts))


def lay_out(pages: Path) -> None:
    """All pages and pictures, those made from tables too, and the tree of contents in the start page."""
    for source in (*DOCS.rglob("*.md"), *DOCS.rglob("*.svg"), *(CHECKOUT / name for name in BESIDE_README)):
        if source.is_relative_to(HERE):
            continue
        target = pages / staged(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(relocated(source.read_text(encoding="utf-8"), source, pages), encoding="utf-8")
        else:
            shutil.copyfile(source, target)
    reference.write(pages / "reference", DOCS)
    start = relocated((HERE / "index.md").read_text(encoding="utf-8"), DOCS / "index.md", pages)
    (pages / "index.md").write_text("".join([start, *trees(pages)]), encoding="utf-8")


def trees(pages: Path) -> list[str]:
    """The directives that make the sidebar."""
    left = {str(page.relative_to(pages).with_suffix("")) for page in pages.rglob("*.md")} - {"index"}
    found = []
    for caption, names in NAVIGATION.items():
        below: list[str] = []
        for name in names:
            below += sorted(left & {str(page.relative_to(pages).with_suffix("")) for page in pages.glob(f"{name}.md")})
            left -= set(below)
        lines = [f"{TITLES[page]} <{page}>" if page in TITLES else page for page in below]
        if lines:
            found.append("\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *lines, "```", ""]))
    return found


def main(directory: Path) -> int:
    """0 when the site is made without a warning."""
    for left in ("pages", "html", "doctrees"):  # of an earlier time, of one that was killed too
        shutil.rmtree(directory / left, ignore_errors=True)
    pages = directory / "pages"
    lay_out(pages)
    jobs = str(os.cpu_count() or 1)
    words = ["-q", "-W", "--keep-going", "-j", jobs, "-b", "html", "-c", str(HERE), "-d", str(directory / "doctrees")]
    return sphinx([*words, str(pages), str(directory / "html")])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
