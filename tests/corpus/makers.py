"""Makes the images of the corpus and keeps them: contexts, images by recipe, and the registry they are pulled from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import forms
import roots
from recipes import BUILDERS, SCRIPT, STACKS, Recipe
from workshop import Workshop, run, whole

if TYPE_CHECKING:
    from pathlib import Path

_MADE_OF = "made-of"  # the text of a recipe, in what was made of it: another text, and it is made anew


@dataclass
class Corpus:
    place: Path
    workshop: Workshop
    registry: str  # localhost:PORT, which is empty at the beginning
    pushed: set[str] = field(default_factory=set)

    def _context(self, name: str) -> Path:
        """The Containerfile of a stack and what it copies."""
        stack = STACKS[name]
        target = self.place / "contexts" / name
        text = stack.made_of
        if _is_made(target, text):
            return target
        target.parent.mkdir(exist_ok=True)
        with whole(target) as new:
            new.mkdir()
            if stack.root:
                roots.ROOTS[stack.root](new, self.workshop)
            if stack.wheels:
                roots.wheels(new, stack.wheels)
            if stack.modules:
                roots.modules(new, stack.modules)
            (new / "Containerfile").write_text(stack.lines)
            (new / _MADE_OF).write_text(text)
        return target

    def image(self, recipe: Recipe) -> Path:
        """The directory with the image of a recipe: an OCI `layout`, skopeo's `dir`, or `image.tar`."""
        target = self.place / "images" / recipe.name
        text = f"{STACKS[recipe.stack].made_of}\n{BUILDERS[recipe.builder]}\n"
        for base in re.findall(r"\$\{REGISTRY\}/([a-z]+)", STACKS[recipe.stack].lines):
            self.push(Recipe(base, "buildkit"), base)
            text += self.image(Recipe(base, "buildkit")).joinpath(_MADE_OF).read_text()
        if _is_made(target, text):
            return target
        target.parent.mkdir(exist_ok=True)
        context = self._context(recipe.stack)
        origin = self.image(Recipe(recipe.stack, "buildkit")) if recipe.builder != "buildkit" else target
        with whole(target) as new:
            new.mkdir()
            kind, _, form = recipe.builder.partition("-")
            if kind == "form":
                forms.write(form, origin / "layout", new / "layout")
            else:
                variables = {"CONTEXT": context, "OUT": new, "STACK": recipe.stack, "FROM": origin / "layout"}
                function = recipe.builder.replace("-", "_")
                self.workshop(f"{SCRIPT.read_text()}\n{function}", REGISTRY=self.registry, **variables)
            (new / _MADE_OF).write_text(text)
        return target

    def push(self, recipe: Recipe, name: str) -> str:
        """Puts the image of a recipe into the registry as it is, and says under which name it can be pulled."""
        reference = f"{self.registry}/{name}"
        if reference not in self.pushed:
            options = "--quiet --insecure-policy --all --preserve-digests --dest-tls-verify=false"
            self.workshop(f"skopeo copy {options} {_form(self.image(recipe))} docker://{reference}")
            self.pushed.add(reference)
        return reference

    def source(self, recipe: Recipe) -> str:
        """What `pull` or, for an archive, `build` is told."""
        form = _form(self.image(recipe))
        return form if form.startswith("docker-archive:") else f"docker://{self.push(recipe, recipe.name)}"

    def unpacked(self, recipe: Recipe) -> Path:
        """The root file system of a recipe's image as umoci unpacks it; until the next one."""
        target = self.place / "unpacked"
        forget(target)
        target.mkdir()
        script = f"skopeo copy --quiet --insecure-policy {_form(self.image(recipe))} oci:$TARGET/layout:t\n"
        self.workshop(f"{script}umoci unpack --image $TARGET/layout:t $TARGET/bundle", TARGET=target)
        return target / "bundle/rootfs"


def _form(place: Path) -> str:
    """Where an image that was made is, in skopeo's words and ours."""
    if (place / "image.tar").exists():
        return f"docker-archive:{place}/image.tar"
    return f"oci:{place}/layout:t" if (place / "layout").is_dir() else f"dir:{place}/dir"


def _is_made(place: Path, text: str) -> bool:
    return (place / _MADE_OF).is_file() and (place / _MADE_OF).read_text() == text


def forget(place: Path) -> None:
    """Removes a tree, with what its owner may not enter."""
    run(["rm", "-rf", place])
