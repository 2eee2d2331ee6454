"""The verbs: their names, one line about each, and where it is done."""

from typing import NamedTuple


class Verb(NamedTuple):
    """One word of the command line; `module` is below `singularity.cli`, empty for what the front door does itself."""

    name: str
    summary: str
    group: str
    module: str = ""
    hidden: bool = False


_LAUNCH, _IMAGES, _GENERAL = "Run programs in containers", "Make and explain images", "General"

VERBS = {
    verb.name: verb
    for verb in (
        Verb(name="exec", summary="Run a program in a container", group=_LAUNCH),
        Verb(name="run", summary="Run the runscript of an image", group=_LAUNCH),
        Verb(name="shell", summary="Open a shell in a container", group=_LAUNCH),
        Verb(name="test", summary="Run the test that an image brings", group=_LAUNCH),
        Verb(
            name="rerun", summary="Run what a record of exec --record says, and compare", group=_LAUNCH, module="rerun"
        ),
        Verb(
            name="instance",
            summary="Containers that stay under a name: services, and what many commands use",
            group=_LAUNCH,
            module="instance",
        ),
        Verb(name="build", summary="Make an image from a definition file", group=_IMAGES, module="build"),
        Verb(name="pull", summary="Fetch an image as a file", group=_IMAGES, module="pull"),
        Verb(name="flatten", summary="Make one file of an image and its base", group=_IMAGES, module="flatten"),
        Verb(name="bootstrap", summary="Make a container in an image", group=_IMAGES, module="bootstrap"),
        Verb(name="create", summary="Make an empty image that is written to", group=_IMAGES, module="create"),
        Verb(name="expand", summary="Make an image larger", group=_IMAGES, module="expand"),
        Verb(name="import", summary="Unpack an archive into an image", group=_IMAGES, module="import_"),
        Verb(name="export", summary="Write what is in an image as a tar archive", group=_IMAGES, module="export"),
        Verb(name="push", summary="Put an image into a registry", group=_IMAGES, module="push"),
        Verb(
            name="chunks",
            summary="Index an image, so that others fetch only what changed",
            group=_IMAGES,
            module="chunks",
        ),
        Verb(name="copy", summary="Copy files of the host into an image", group=_IMAGES, module="copy"),
        Verb(name="mount", summary="Open a shell with an image mounted", group=_IMAGES, module="mount"),
        Verb(name="remove", summary="Remove sandboxes, whoever owns their files", group=_IMAGES, module="remove"),
        Verb(name="inspect", summary="Show what an image says about itself", group=_IMAGES, module="inspect"),
        Verb(name="check", summary="Say what would fail in a job, before it runs", group=_IMAGES, module="check"),
        Verb(name="sbom", summary="List the packages in an image (SPDX, CycloneDX)", group=_IMAGES, module="sbom"),
        Verb(name="diff", summary="Say how two images differ", group=_IMAGES, module="diff"),
        Verb(name="why", summary="Say what brought a file into an image", group=_IMAGES, module="why"),
        Verb(name="view", summary="Look at an image in a browser", group=_IMAGES, module="view"),
        Verb(
            name="install",
            summary="Make programs of an image commands, a module, a kernel of Jupyter",
            group=_IMAGES,
            module="install",
        ),
        Verb(name="uninstall", summary="Take away what install has written", group=_IMAGES, module="uninstall"),
        Verb(name="run-help", summary="Show the help text of an image", group=_IMAGES, module="run_help"),
        Verb(name="sif", summary="Look into a SIF file, and change it", group=_IMAGES, module="sif"),
        Verb(name="sign", summary="Sign an image, so that others see that it is whole", group=_IMAGES, module="sign"),
        Verb(
            name="verify", summary="Check who has signed an image, and that it is whole", group=_IMAGES, module="verify"
        ),
        Verb(name="overlay", summary="Make images that take what containers write", group=_IMAGES, module="overlay"),
        Verb(name="stage", summary="Copy an image to the nodes of a job", group=_GENERAL, module="stage"),
        Verb(name="cache", summary="Show and remove what is kept to be used again", group=_GENERAL, module="cache"),
        Verb(name="linger", summary="Show and end what keeps images mounted", group=_GENERAL, module="linger"),
        Verb(
            name="key",
            summary="Keep the keys that sign images, and those whose signatures count",
            group=_GENERAL,
            module="key",
        ),
        Verb(name="keyserver", summary="Say which servers are asked for keys", group=_GENERAL, module="keyserver"),
        Verb(name="registry", summary="Log in to registries of images, and out", group=_GENERAL, module="registry"),
        Verb(name="remote", summary="Say which library is asked, and log in to it", group=_GENERAL, module="remote"),
        Verb(name="search", summary="Look for images in a library", group=_GENERAL, module="search"),
        Verb(name="tag", summary="Give an image of a registry more tags", group=_GENERAL, module="tag"),
        Verb(name="delete", summary="Remove an image from a library or registry", group=_GENERAL, module="delete"),
        Verb(name="capability", summary="Say which capabilities users may add", group=_GENERAL, module="capability"),
        Verb(
            name="migrate",
            summary="Take over what Apptainer has of a user or a site",
            group=_GENERAL,
            module="migrate",
        ),
        Verb(name="config", summary="Change the configuration, and the ids of users", group=_GENERAL, module="config"),
        Verb(
            name="doctor",
            summary="Say what is wrong with this installation, and what mends it",
            group=_GENERAL,
            module="doctor",
        ),
        Verb(name="help", summary="Show this page, or the page of a verb", group=_GENERAL, module="help"),
        Verb(name="version", summary="Print the version", group=_GENERAL, module="version"),
        Verb(name="completion", summary="Print the completion script of a shell", group=_GENERAL, module="completion"),
        Verb(name="launch", summary="Launch what is not an image file", group=_GENERAL, module="launch", hidden=True),
        Verb(name="keys", summary="The same as key", group=_GENERAL, module="key", hidden=True),
        Verb(name="caps", summary="The same as capability", group=_GENERAL, module="capability", hidden=True),
        Verb(name="complete", summary="Say what could follow", group=_GENERAL, module="complete", hidden=True),
        Verb(name="answer", summary="Answer what a launch asks", group=_GENERAL, module="answer", hidden=True),
    )
}

GROUPS = (_LAUNCH, _IMAGES, _GENERAL)

OLD_SPELLINGS = {f"instance.{name}": ("instance", name) for name in ("list", "stop")}
"""As 2.4 to 2.6 had them; `instance.start` is the front door's."""
NOT_HERE = {
    "apps": "singularity inspect --list-apps IMAGE",
    "buildcfg": "singularity --verbose --version shows where things are",
    "checkpoint": "programs save their own state",
    "confgen": "singularity.conf is installed with its defaults, which it explains",
    "data": "singularity build --data IMAGE DIRECTORY makes an image, and a launch shows it: --data IMAGE:TARGET",
    "oci": "exec and run take such images as oci:DIRECTORY and oci-archive:FILE",
    "plugin": "there are no plug-ins",
    "start": "singularity instance start IMAGE NAME",
    "stop": "singularity instance stop NAME",
}
"""Verbs of the family that this version lacks, and what there is in their place."""
