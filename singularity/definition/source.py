"""What a build is made from: a definition file, a Dockerfile, or an image that stands for `Bootstrap: localimage`."""

import codecs
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from singularity import uri
from singularity.definition import dockerfile, version1
from singularity.definition.dockerfile import ignore
from singularity.definition.model import Definition, Field, Stage
from singularity.definition.parse import SIZE_LIMIT, parse
from singularity.definition.template import Expanded, expand, parse_argument
from singularity.errors import DefinitionError, FileError, ImageError
from singularity.image.identify import Format, identify

_HEAD = 512
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # no image begins with either
_NAME = 100  # bytes of a tar header that a name stands in
_OF_LAYERS = re.compile(rb"(?:\./)?(?:blobs/|(?:oci-layout|(?:index|manifest)\.json)\0|[0-9a-f]{64}(?:/|\.json|\.tar))")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForDockerfiles:
    """What else a Dockerfile needs."""

    context: Path | None = None  # where its sources are; None: where it lies itself
    is_dockerfile: bool = False  # whatever it looks like
    target: str = ""  # the stage that is wanted; empty: the last
    architecture: str  # that the image is for, as Go names it
    host: str  # that the build runs on


def read(
    source: str,
    arguments: Mapping[str, str],
    *,
    unused_allowed: bool,
    header_optional: bool = False,
    positional: Sequence[str] = (),
    dockerfiles: ForDockerfiles | None = None,
) -> Definition:
    """The definition that `source` names, its templates filled in with `arguments`.

    `header_optional` and `positional` are those of `parse`. Files of the first format have no templates. A Dockerfile
    is a definition too, where it is said what that needs, and so is what `Bootstrap: dockerfile` names.
    Raises DefinitionError, FileError, and ImageError for a source that is neither.
    """
    named = uri.parse(source)
    if named is not None and not named.transport.is_web:
        return _of_image(named.transport.value, named.place, source)
    path = Path(source)
    text = _text(path)
    if text is None:
        return _of_path(path, source)
    if dockerfiles and (dockerfiles.is_dockerfile or dockerfile.recognise(path.name, text)):
        if header_optional:
            raise DefinitionError(
                "a Dockerfile begins with an image of its own", name=source, hint="no --update with it"
            )
        return _of_dockerfile(path, text, arguments, dockerfiles)
    if version1.recognise(text):
        expanded = Expanded(text=text, unused=tuple(sorted(arguments)))
    else:
        expanded = expand(text, source, arguments)
    definition = parse(expanded.text, source, header_optional=header_optional, arguments=positional)
    unused = set(expanded.unused)
    if dockerfiles and any(stage.agent == "dockerfile" for stage in definition.stages):
        definition, not_used = _with_dockerfiles(definition, arguments, dockerfiles)
        unused &= not_used
    if not unused:
        return definition
    what = f"no {{{{ {min(unused)} }}}} in it, but a value was given"
    if not unused_allowed:
        raise DefinitionError(what, name=source, hint="--warn-unused-build-args makes this a warning")
    return Definition(
        name=definition.name,
        text=definition.text,
        stages=definition.stages,
        warnings=(*definition.warnings, f"{source}: {what}"),
    )


def _of_path(path: Path, source: str) -> Definition:
    """What is no text: an image. Raises ImageError and FileError."""
    image = identify(path)
    if (path / "oci-layout").is_file():
        raise ImageError(f"{source}: an OCI layout, no root file system", hint=f"oci:{source} is the image in it")
    if image.format is Format.DIRECTORY and os.access(path, os.R_OK) and not os.listdir(path):
        raise ImageError(f"{source}: an empty directory, not an image")
    if image.format is Format.TAR and _holds_layers(path):
        hint = f"oci-archive:{source} or docker-archive:{source} is the image in it"
        raise ImageError(f"{source}: an archive of layers, no root file system", hint=hint)
    return _of_image("localimage", source, source)


def _of_dockerfile(
    path: Path, text: str, arguments: Mapping[str, str], options: ForDockerfiles, prefix: str = ""
) -> Definition:
    """The stages of a Dockerfile as a definition; arguments that it has no use for are warned of, as elsewhere."""
    context = options.context or path.parent
    found = dockerfile.parse(
        text,
        dockerfile.Asked(
            name=str(path),
            context=context,
            ignored=_ignored(path, context),
            arguments=arguments,
            target=options.target,
            architecture=options.architecture,
            host=options.host,
            prefix=prefix,
        ),
    )
    warnings = tuple(f"{path}: no ARG {name} in it, but a value was given" for name in found.unused)
    return Definition(name=str(path), text=text, stages=found.stages, warnings=warnings)


def _ignored(path: Path, context: Path) -> tuple[str, ...]:
    """The patterns of `FILE.dockerignore`, or else of `.dockerignore` or `.containerignore` in the context."""
    places = (path.with_name(f"{path.name}.dockerignore"), context / ".containerignore", context / ".dockerignore")
    for place in places:
        try:
            return ignore.read(place.read_text(encoding="utf-8", errors="surrogateescape"), str(place)).patterns
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileError.because(place, error) from error
    return ()


def _with_dockerfiles(
    definition: Definition, arguments: Mapping[str, str], options: ForDockerfiles
) -> tuple[Definition, set[str]]:
    """The same with the stages of the Dockerfiles that headers name, and arguments that none of these uses."""
    stages: list[Stage] = []
    unused = set(arguments)
    for number, stage in enumerate(definition.stages, 1):
        if stage.agent != "dockerfile":
            stages.append(stage)
            continue
        path, context = _dockerfile_of(stage, definition.name)
        text = _text(path)
        if text is None:
            raise DefinitionError(f"From: {path}: no Dockerfile", name=definition.name, line=stage.header["from"].line)
        given = {**_build_arguments(stage, definition.name), **arguments}
        wanted = replace(options, context=context, target=stage.value("target"))
        found = _of_dockerfile(path, text, given, wanted, f"{number}/")
        unused &= {name for name in arguments if any(f"no ARG {name} " in each for each in found.warnings)}
        last = found.stages[-1]
        header = {keyword: field for keyword, field in last.header.items() if keyword != "stage"}
        if "stage" in stage.header:
            header["stage"] = stage.header["stage"]
        recipe, architecture, line = last.recipe, last.architecture, last.line
        stages += [
            *found.stages[:-1],
            replace(stage, header=header, recipe=recipe, architecture=architecture, line=line),
        ]
    return replace(definition, stages=tuple(stages)), unused


def _dockerfile_of(stage: Stage, name: str) -> tuple[Path, Path]:
    """The file that a header names, and its context: `From` is the file, or the context with a `Filename` in it."""
    field = stage.header.get("from")
    if field is None or not field.value:
        hint = "From: PATH of a Dockerfile, or of a directory with one"
        raise DefinitionError("bootstrap agent dockerfile needs From", name=name, line=stage.line, hint=hint)
    place = Path(field.value)
    if not place.is_dir():
        return place, place.parent
    wanted = [stage.value("filename")] if stage.value("filename") else ["Dockerfile", "Containerfile"]
    for each in wanted:
        if (place / each).exists():
            return place / each, place
    raise DefinitionError(f"From: {place}: no {wanted[0]} in it", name=name, line=field.line)


def _build_arguments(stage: Stage, name: str) -> dict[str, str]:
    field = stage.header.get("buildargs")
    if field is None:
        return {}
    try:
        return dict(parse_argument(word, name, field.line) for word in shlex.split(field.value))
    except ValueError as error:
        raise DefinitionError(f"BuildArgs: {error}", name=name, line=field.line) from error


def _holds_layers(path: Path) -> bool:
    """Whether a tar archive is one of `docker save` or of an OCI layout, by the name of its first member."""
    with path.open("rb") as file:
        return bool(_OF_LAYERS.match(file.read(_NAME)))


def _of_image(agent: str, place: str, source: str) -> Definition:
    header = {"bootstrap": Field(value=agent, line=1), "from": Field(value=place, line=2)}
    text = f"Bootstrap: {agent}\nFrom: {place}\n"
    return Definition(name=source, text=text, stages=(Stage(header=header, line=1),))


def _text(path: Path) -> str | None:
    """The text of a definition file; None for what is an image. Raises FileError and DefinitionError."""
    with FileError.about(path):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with open(fd, "rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except IsADirectoryError:
        return None
    except OSError as error:
        raise FileError.because(path, error) from error
    if data.startswith(_UTF16):
        raise DefinitionError("text of 16-bit letters, as Windows writes it", name=str(path), hint="save it as UTF-8")
    if b"\0" in data[:_HEAD]:
        return None
    if len(data) > SIZE_LIMIT:
        raise DefinitionError(f"more than {SIZE_LIMIT >> 20} MiB: no definition file", name=str(path))
    return data.decode("utf-8", "surrogateescape")
