"""The pages of the reference, from the tables that the programs themselves are made from.

Commands and options: what `help` shows. Variables: those that options have, and those that the source asks for.
Configuration: the keys of launcher/config.def, explained in etc/singularity.conf. Definition files:
singularity/definition. Messages: every refusal of the source that says what to do about it. What a table names and
nobody explains stops the build of the site.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from singularity.cli.options_table import table as launch_options
from singularity.cli.page import Option, Page, spelling
from singularity.cli.pages import EXIT_STATUSES, pages
from singularity.cli.verbs import GROUPS, NOT_HERE, VERBS
from singularity.definition.keywords import ANY, KEYWORDS, USED
from singularity.definition.sections import APP_SECTIONS, SECTIONS

CHECKOUT = Path(__file__).resolve().parents[2]
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$])")


def write(directory: Path, docs: Path) -> None:
    """All pages into `directory`; `docs` has the guides that they link to."""
    (directory / "commands").mkdir(parents=True)
    found = pages()
    verbs = [verb for verb in VERBS.values() if not verb.hidden]
    for verb in verbs:
        own = [page for name, page in found.items() if name.split()[:1] == [verb.name]]
        save(directory / "commands" / f"{verb.name}.md", command(own))
    save(directory / "commands.md", commands(found[""]))
    save(directory / "variables.md", variables(found, docs))
    save(directory / "configuration.md", configuration())
    save(directory / "definition-keywords.md", definition((docs / "definition-files.md").read_text(encoding="utf-8")))
    save(directory / "exit-statuses.md", statuses())
    save(directory / "messages.md", messages())


def save(path: Path, lines: Iterable[str]) -> None:
    """A page from its lines."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plain(text: str) -> str:
    """Text that Markdown shows as it is, in a cell of a table too."""
    return _SPECIAL.sub(r"\\\1", text)


def code(text: str) -> str:
    """Text as code, in a cell of a table too."""
    return f"`{text}`".replace("|", "\\|")


def rows(heading: tuple[str, ...], cells: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A table."""
    yield ""
    yield f"| {' | '.join(heading)} |"
    yield "|" + "---|" * len(heading)
    yield from (f"| {' | '.join(row)} |" for row in cells)
    yield ""


# ---- commands and options --------------------------------------------------------------------------------------------
def command(own: list[Page]) -> Iterator[str]:
    """A verb's page, and below it those of its own verbs."""
    for number, page in enumerate(own):
        yield f"{'#' if number == 0 else '##'} singularity {page.verb}"
        yield from ("", plain(page.summary) + ".", "", "```text", *page.usage, "```", "")
        for paragraph in page.description:
            yield from (plain(paragraph), "")
        for group, below in page.verbs:
            yield f"**{group}**"
            yield from rows(
                ("command", ""), ((f"[{name}](#singularity-{page.verb}-{name})", plain(text)) for name, text in below)
            )
        for group, options in page.groups().items():
            yield from (f"**{group}**", "", *map(option, options))
        if page.examples:
            yield from ("**Examples**", "", "```sh", *page.examples, "```", "")


def option(each: Option) -> str:
    """An entry of a list of definitions."""
    set_by = f" Variables: {', '.join(f'`{name}`' for name in each.variables)}." if each.variables else ""
    return f"`{spelling(each)}`\n: {plain(each.help.rstrip('.'))}.{set_by}\n"


def commands(program: Page) -> Iterator[str]:
    """The list of all verbs, and the tree of their pages."""
    yield from ("# Commands", "", "The same is in `singularity help VERB` and in the manual pages.", "")
    yield from ("```text", *program.usage, "```", "")
    for group in GROUPS:
        yield f"## {group}"
        own = (verb for verb in VERBS.values() if verb.group == group and not verb.hidden)
        yield from rows(
            ("command", ""), ((f"[{verb.name}](commands/{verb.name}.md)", plain(verb.summary)) for verb in own)
        )
    yield from ("## Global options", "", "They stand before the verb.", "")
    yield from map(option, program.options)
    yield from ("## Verbs of other programs", "", "Known, and answered with what to do instead:", "")
    yield from rows(("command", "in its place"), ((code(verb), plain(instead)) for verb, instead in NOT_HERE.items()))
    yield from (
        "```{toctree}",
        ":hidden:",
        "",
        *(f"{verb.name} <commands/{verb.name}>" for verb in VERBS.values() if not verb.hidden),
    )
    yield "```"


def statuses() -> Iterator[str]:
    """What a command ends with."""
    yield from ("# Exit statuses", "")
    yield from rows(("status", "when"), ((plain(status), plain(meaning)) for status, meaning in EXIT_STATUSES))


# ---- variables -------------------------------------------------------------------------------------------------------
def variables(found: Mapping[str, Page], docs: Path) -> Iterator[str]:
    """Every variable: what it sets, and the guides that speak of it."""
    options: dict[str, Option] = {}
    verbs: dict[str, list[str]] = defaultdict(list)
    for page in found.values():
        for each in page.options:
            for name in each.variables:
                options.setdefault(name, each)
                verbs[name].append(page.verb)
    bare = {f"SINGULARITY_{name}": entry for entry in launch_options() if not entry.names for name in entry.variables}
    asked = {
        f"SINGULARITY_{name}"
        for name in re.findall(r'\bvariable\("([A-Z_]+)"\)', "".join(sources("singularity", "py").values()))
    }
    yield from (
        "# Environment variables",
        "",
        "Each works under the prefix `APPTAINER_` as well; ours wins. An option on the command line wins",
    )
    yield from ("over its variable, except for lists, where both add up.", "")
    cells = []
    for name in sorted({*options, *bare, *asked}):
        guides = [page for page in sorted(docs.rglob("*.md")) if re.search(rf"\b{name}\b", page.read_text("utf-8"))]
        if name in options:
            meaning = f"{code(spelling(options[name]))}: {plain(options[name].help)}"
        elif name in bare:
            meaning = plain(bare[name].help)
        elif guides:
            meaning = sentence(guides[0], name)
        else:
            raise SystemExit(f"reference: no page says what {name} does")
        links = [f"[{page.stem}](../{page.relative_to(docs)})" for page in guides]
        cells.append((code(name), meaning, ", ".join([*users(verbs[name]), *links])))
    yield from rows(("variable", "what it sets", "for, and guides"), cells)


def users(verbs: Sequence[str]) -> Iterator[str]:
    """The commands that have an option, as links; those that launch are one."""
    launches = {"exec", "run", "shell", "test", "instance start", "instance run"}
    if launches & set(verbs):
        yield "[launches](commands/exec.md)"
    for verb in dict.fromkeys(verb.partition(" ")[0] for verb in verbs if verb not in launches):
        yield f"[{verb}](commands/{verb}.md)" if verb else "[all](commands.md#global-options)"


def sentence(page: Path, name: str) -> str:
    """What the guide says where it names the variable: the row of a table, or the sentence."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.split(r"\n\n+", text):
        if re.search(rf"\b{name}\b", paragraph):
            lines = [line for line in paragraph.splitlines() if name in line and line.startswith("|")]
            if lines:
                return lines[0].strip("| ").replace(" | ", ": ")
            said = " ".join(paragraph.split())
            near = next(each for each in re.split(r"(?<=[.;:]) (?=[A-Z`])", said) if re.search(rf"\b{name}\b", each))
            return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", near).replace("|", "\\|")
    return ""


# ---- configuration ---------------------------------------------------------------------------------------------------
def configuration() -> Iterator[str]:
    """Every key, as etc/singularity.conf explains it."""
    known = re.sub(r"/\*.*?\*/", "", (CHECKOUT / "launcher/config.def").read_text(encoding="utf-8"), flags=re.DOTALL)
    keys = re.findall(r'CONFIG_(?!FOREIGN)\w+\(\w+, "([^"]+)"', known)
    file = (CHECKOUT / "etc/singularity.conf").read_text(encoding="utf-8")
    yield from (
        "# Configuration keys",
        "",
        "The keys of `singularity.conf`, one `key = value` a line. [administrator.md](../administrator.md)",
    )
    yield from ("says who obeys it, and where it lies.", "")
    explained: set[str] = set()
    for heading, part in re.findall(r"^# ---- (.*?) -+\n(.*?)(?=^# ----|\Z)", file, re.MULTILINE | re.DOTALL):
        yield f"## {heading}"
        for block in re.split(r"\n\n+", part.strip()):
            named = re.findall(r"^# ([A-Z_ -]+): \[(.*)\]$", block, re.MULTILINE)
            default = re.search(r"^# DEFAULT: (.*)$", block, re.MULTILINE)
            text = [
                line[2:]
                for line in block.splitlines()
                if line.startswith("# ") and not re.match(r"# [A-Z_ -]+: ", line)
            ]
            example = [line for line in block.splitlines() if not line.startswith("# ")]
            if not named or not default:
                continue
            explained |= {name.lower() for name, _ in named}
            yield from ("", "### " + ", ".join(name.lower() for name, _ in named), "")
            kind = "yes or no" if named[0][1] == "BOOL" else named[0][1].lower()
            yield from (
                f"*{plain(kind)}; default: {plain(default[1])}*",
                "",
                plain(" ".join(text)),
                "",
                "```text",
                *example,
                "```",
                "",
            )
    missing = set(keys) - explained
    if missing:
        raise SystemExit(f"reference: etc/singularity.conf does not explain {', '.join(sorted(missing))}")
    foreign = re.findall(r'CONFIG_FOREIGN\("([^"]+)"\)', known)
    yield from (
        "",
        "## Keys of other programs",
        "",
        "Read without complaint, and without effect here: " + ", ".join(map(code, foreign)) + ".",
    )


# ---- definition files ------------------------------------------------------------------------------------------------
def definition(guide: str) -> Iterator[str]:
    """Keywords of the header with the agents that use them, and sections; meanings from the tables of the guide."""
    meanings = {}
    header = guide.partition("\n## The sections\n")[0]
    for names, meaning in re.findall(r"^\| (`[^|]*`[^|]*) \|[^|]*\| ([^|]*) \|$", header, re.MULTILINE):
        meanings.update(dict.fromkeys(re.findall(r"`([^`]+)`", names), meaning))
    yield from (
        "# Definition keywords",
        "",
        "[definition-files.md](../definition-files.md) explains them with examples.",
        "",
        "## The header",
    )
    cells = []
    for keyword in KEYWORDS:
        agents = [agent for agent, own in USED.items() if keyword in own]
        who = "all" if keyword in ANY else ", ".join(map(code, agents))
        cells.append(
            (
                code(keyword),
                who,
                re.sub(r"\]\(([^):]+)\)", linked, meanings.get(keyword) or absent(f"keyword {keyword}")),
            )
        )
    yield from rows(("keyword", "used by", "meaning"), cells)
    yield from ("## Bootstrap agents", "")
    yield from rows(
        ("agent", "keywords"), ((code(agent), ", ".join(map(code, own)) or "none") for agent, own in USED.items())
    )
    yield from ("## Sections", "")
    described = {
        row[0]: row[1:] for row in re.findall(r"^\| `%(\w+)[^|`]*` \| ([^|]*?) ?\| ([^|]*?) ?\|$", guide, re.MULTILINE)
    }
    unknown = ", ".join(name for name in SECTIONS if name not in described)
    cells = [
        (code(f"%{name}"), *(re.sub(r"\]\(([^):]+)\)", linked, cell) for cell in described[name]))
        for name in SECTIONS
        if not unknown or absent(unknown)
    ]
    yield from rows(("section", "runs or goes", ""), cells)
    yield from (
        "Of [applications](../definition-files.md#applications): "
        + ", ".join(code(f"%{name}") for name in APP_SECTIONS)
        + ".",
        "",
    )


def linked(link: re.Match[str]) -> str:
    """A link of the guide as it is from the reference."""
    return f"](../{'definition-files.md' if link[1].startswith('#') else ''}{link[1]})"


def absent(what: str) -> str:
    """Stops: the table has what the guide does not explain."""
    raise SystemExit(f"reference: docs/definition-files.md does not explain {what}")


# ---- messages --------------------------------------------------------------------------------------------------------
ROOMS = {
    "launcher": "Starting containers",
    "build": "Building",
    "definition": "Definition files",
    "image": "Images",
    "edit": "Images that exist",
    "registry": "Registries",
    "sources": "Images by URI",
    "oci": "Images of layers",
    "push": "Pushing",
    "pull": "Pulling",
    "trust": "Signatures and keys",
    "policy": "Policies",
    "encryption": "Encryption",
    "check": "Checks before a job",
    "instance": "Instances",
    "namespaces": "User namespaces and owners",
    "network": "Networks",
    "limits": "Limits",
    "cache": "The cache",
    "cli": "The command line",
    "library": "Libraries",
    "lazy": "Lazy images",
    "web": "Web servers",
}


def sources(directory: str, suffix: str) -> dict[str, str]:
    """The texts of the source files by their path below the checkout."""
    files = sorted((CHECKOUT / directory).rglob(f"*.{suffix}"))
    return {str(file.relative_to(CHECKOUT)): file.read_text(encoding="utf-8") for file in files}


def messages() -> Iterator[str]:
    """Every refusal that names a way out: its words, and what to do."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for name, text in sources("singularity", "py").items():
        room = name.split("/")[1].removesuffix(".py")
        found[ROOMS.get(room, "Everywhere")] |= set(refusals(ast.parse(text)))
    for text in sources("launcher", "c").values():
        found[ROOMS["launcher"]] |= set(c_refusals(text))
    yield from (
        "# Messages, and what to do",
        "",
        "What went wrong is one line, which begins with `FATAL:`, and the way out stands in parentheses",
    )
    yield from (
        "at its end. Here are all that have one, by what they are about; *words like this* differ from case to case.",
        "",
    )
    for room in (*ROOMS.values(), "Everywhere"):
        if found[room]:
            yield f"## {room}"
            yield ""
            yield from (
                f"{what}\n: {hint}\n"
                for what, hint in sorted(found[room], key=lambda pair: pair[0].lstrip('*\\-". ').lower())
            )


def refusals(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Those of a Python file: calls with a text and a `hint`, which may be variables of the function."""
    for scope in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        said: dict[str, list[ast.expr]] = defaultdict(list)
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                said[node.targets[0].id].append(node.value)
        for call in ast.walk(scope):
            if isinstance(call, ast.Call) and call.args:
                hints = [hint for each in call.keywords if each.arg == "hint" for hint in texts(each.value, said)]
                whats = [what for what in texts(call.args[0], said) if len(re.sub(r"\*[^*]*\*", "", what)) > 8]
                yield from ((what, hint) for what in whats for hint in hints if hint)


def texts(node: ast.expr, said: Mapping[str, list[ast.expr]]) -> list[str]:
    """What an expression may be as a text of the source."""
    if isinstance(node, ast.IfExp):
        return [*texts(node.body, said), *texts(node.orelse, said)]
    if isinstance(node, ast.Name):
        return [shown(each) for each in said.get(node.id, ())]
    return [shown(node)]


def shown(node: ast.expr) -> str:
    """A text of the source with its values as names; empty for what is none."""
    if isinstance(node, ast.Constant):
        return plain(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(shown(part) if isinstance(part, ast.Constant) else value(part) for part in node.values)
    return ""


def value(node: ast.expr) -> str:
    """A value within a text: the last name of its expression."""
    names = [
        each.attr if isinstance(each, ast.Attribute) else each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute | ast.Name)
    ]
    return f"*{names[0].strip('_').replace('_', ' ')}*" if names else "*...*"


def c_refusals(text: str) -> Iterator[tuple[str, str]]:
    """Those of a C file: formats of what ends a launch, whose last parenthesis is the way out."""
    for _, literals in re.findall(
        r'\b(error_set|stop|message_fatal|stop_usage)\([^;"]*?((?:"(?:\\.|[^"\\])*"\s*(?:PRI\w+\s*)?)+)', text
    ):
        said = "".join(re.findall(r'"((?:\\.|[^"\\])*)"', literals)).replace("\\n", "")
        said = re.sub(r"\\(.)", r"\1", said)
        parts = re.fullmatch(r"(.{8,}?) \(([^()]*(?:\([^()]*\)[^()]*)*)\)", said)
        if parts and " " in parts[2] and not parts[2].startswith("%"):
            what, hint = (re.sub(r"%[-.*0-9]*(?:z|l|ll|j|h)*[sdiuxXoc]", "\0", part) for part in parts.groups())
            yield plain(what).replace("\0", "*...*"), plain(hint).replace("\0", "*...*")
