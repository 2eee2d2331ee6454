"""Packages of R: a directory each with a file `DESCRIPTION`, to which installing adds the field `Built`.

Source of the format: "Writing R Extensions", "The DESCRIPTION file".
"""

from collections.abc import Iterator

from singularity.packages.model import Manager, Package, Survey, stanzas


def read(survey: Survey) -> Iterator[Package]:
    """The packages in every library of the image; sources of packages are none."""
    for path in survey.walked:
        directory, _, name = path.rpartition("/")
        if name != "DESCRIPTION" or f"{directory}/Meta/package.rds" not in survey.walked:
            continue
        said = next(stanzas(survey.text(path)), {})
        if said.get("package") and said.get("version") and said.get("built"):
            yield Package(
                manager=Manager.R,
                name=said["package"],
                version=said["version"],
                license=said.get("license", ""),
                supplier=" ".join(said.get("maintainer", "").split()),
                homepage=said.get("url", "").partition(",")[0].partition("\n")[0],
                summary=" ".join(said.get("title", "").split()),
                place=path,
                trees=(directory,),
            )
