"""The scripts that every image gets below `/.singularity.d`.

Launches evaluate the environment scripts without a shell as long as they keep to assignments, tests and sourcing files
by name (`launcher/environment/script.h`), and that is what these do. The scripts below `actions` serve older launchers,
which start the image through them.
"""

from collections.abc import Sequence

from singularity.definition.model import Script

_SHELL = "#!/bin/sh\n"

BASE = f"{_SHELL}# The environment of this image: the files beside this one, in the order of their names.\n"

LAST = f"""{_SHELL}# What a launch brings in from the host is found after the image's own.
LD_LIBRARY_PATH="${{LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}}/.singularity.d/libs"
PS1="Singularity> "
export LD_LIBRARY_PATH PS1
"""

_SOURCE_ALL = """for part in /.singularity.d/env/*.sh; do
    if [ -f "$part" ]; then . "$part"; fi
done
"""

_ACTIONS = {
    "exec": 'exec "$@"\n',
    "run": """script=/.singularity.d/runscript
if [ -n "${SINGULARITY_APPNAME:-}" ]; then
    script=/scif/apps/$SINGULARITY_APPNAME/scif/runscript
fi
if [ -x "$script" ]; then exec "$script" "$@"; fi
echo "no runscript in this image: starting a shell" >&2
exec /bin/sh "$@"
""",
    "shell": """for shell in "${SINGULARITY_SHELL:-}" /bin/bash /bin/sh; do
    if [ -n "$shell" ] && [ -x "$shell" ]; then
        SHELL=$shell
        export SHELL
        if [ "$shell" = /bin/bash ]; then exec "$shell" --norc "$@"; fi
        exec "$shell" "$@"
    fi
done
echo "no shell in this image" >&2
exit 1
""",
    "start": """if [ -x /.singularity.d/startscript ]; then exec /.singularity.d/startscript "$@"; fi
""",
    "test": """script=/.singularity.d/test
if [ -n "${SINGULARITY_APPNAME:-}" ]; then
    script=/scif/apps/$SINGULARITY_APPNAME/scif/test
fi
if [ -x "$script" ]; then exec "$script" "$@"; fi
echo "no test in this image" >&2
""",
}

# How a build runs %test: with the environment of the image, by a shell with the options that $0 has.
TEST = f'{_SOURCE_ALL}exec /bin/sh "$0" /.singularity.d/test "$@"\n'
TEST_OTHER_INTERPRETER = f'{_SOURCE_ALL}exec /.singularity.d/test "$@"\n'


def actions() -> dict[str, str]:
    """The text of each script below `actions`, by name."""
    return {name: _SHELL + _SOURCE_ALL + text for name, text in _ACTIONS.items()}


def environment(body: str, before: str = "") -> str:
    """`90-environment.sh`: the section's body, after what an image that this one is built on has there."""
    if before:
        return f"{before.rstrip()}\n\n{body}" if body else before
    return f"{_SHELL}# From %environment of the definition file.\n" + (f"\n{body}" if body else "")


def executable(script: Script) -> str:
    """A section as a file that can be executed: with an interpreter line, which the section's arguments extend."""
    arguments = " ".join(("", *script.arguments))
    line = script.interpreter_line
    if line:
        return line + arguments + script.body[script.body.index(line) + len(line) :]
    return f"#!/bin/sh{arguments}\n\n{script.body}"


def variable_name(app: str) -> str:
    """An application's name as part of a variable's."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in app)


def all_apps(names: Sequence[str]) -> str:
    """`94-appsbase.sh`: where each application of the image is."""
    lines = [_SHELL.rstrip(), "# Where the applications of this image are.", "SCIF_DATA=/scif/data", "export SCIF_DATA"]
    for name in names:
        places = {
            "DATA": f"/scif/data/{name}",
            "META": f"/scif/apps/{name}/scif",
            "ROOT": f"/scif/apps/{name}",
            "BIN": f"/scif/apps/{name}/bin",
            "LIB": f"/scif/apps/{name}/lib",
            "ENV": f"/scif/apps/{name}/scif/env/90-environment.sh",
            "LABELS": f"/scif/apps/{name}/scif/labels.json",
            "RUN": f"/scif/apps/{name}/scif/runscript",
            "START": f"/scif/apps/{name}/scif/startscript",
        }
        for key, place in places.items():
            lines.append(f"export SCIF_APP{key}_{variable_name(name)}={place}")
    return "\n".join(lines) + "\n"


def chosen_app(names: Sequence[str]) -> str:
    """`95-apps.sh`: the environment of the application that a launch names."""
    lines = [_SHELL.rstrip(), "# The application that the launch names."]
    lines += [f'SCIF_APPS="{" ".join(names)}"', "export SCIF_APPS"]
    for name in names:
        place = f"/scif/apps/{name}"
        lines += [
            f'if [ "${{SINGULARITY_APPNAME:-}}" = "{name}" ]; then',
            f"    . {place}/scif/env/01-base.sh",
            f"    if [ -d {place}/bin ]; then",
            f'        PATH="{place}/bin:$PATH"',
            "        export PATH",
            "    fi",
            f"    if [ -d {place}/lib ]; then",
            f'        LD_LIBRARY_PATH="{place}/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"',
            "        export LD_LIBRARY_PATH",
            "    fi",
            f"    if [ -f {place}/scif/env/90-environment.sh ]; then",
            f"        . {place}/scif/env/90-environment.sh",
            "    fi",
            "fi",
        ]
    return "\n".join(lines) + "\n"


def app_base(name: str) -> str:
    """`01-base.sh` of an application: its name and places."""
    variables = {
        "SCIF_APPNAME": name,
        "SCIF_APPROOT": f"/scif/apps/{name}",
        "SCIF_APPMETA": f"/scif/apps/{name}/scif",
        "SCIF_DATA": "/scif/data",
        "SCIF_APPDATA": f"/scif/data/{name}",
        "SCIF_APPINPUT": f"/scif/data/{name}/input",
        "SCIF_APPOUTPUT": f"/scif/data/{name}/output",
    }
    return _SHELL + "".join(f"export {key}={value}\n" for key, value in variables.items())
