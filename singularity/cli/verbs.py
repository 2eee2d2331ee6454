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
        Verb("exec", "Run a program in a container", _LAUNCH),
        Verb("run", "Run the runscript of an image", _LAUNCH),
        Verb("shell", "Open a shell in a container", _LAUNCH),
        Verb("test", "Run the test that an image brings", _LAUNCH),
        Verb("rerun", "Run what a record of exec --record says, and compare", _LAUNCH, "rerun"),
        Verb(
            "instance", "Containers that stay under a name: services, and what many commands use", _LAUNCH, "instance"
        ),
        Verb("build", "Make an image from a definition file", _IMAGES, "build"),
        Verb("pull", "Fetch an image as a file", _IMAGES, "pull"),
        Verb("flatten", "Make one file of an image and its base", _IMAGES, "flatten"),
        Verb("bootstrap", "Make a container in an image", _IMAGES, "bootstrap"),
        Verb("create", "Make an empty image that is written to", _IMAGES, "create"),
        Verb("expand", "Make an image larger", _IMAGES, "expand"),
        Verb("import", "Unpack an archive into an image", _IMAGES, "import_"),
        Verb("export", "Write what is in an image as a tar archive", _IMAGES, "export"),
        Verb("push", "Put an image into a registry", _IMAGES, "push"),
        Verb("chunks", "Index an image, so that others fetch only what changed", _IMAGES, "chunks"),
        Verb("copy", "Copy files of the host into an image", _IMAGES, "copy"),
        Verb("mount", "Open a shell with an image mounted", _IMAGES, "mount"),
        Verb("remove", "Remove sandboxes, whoever owns their files", _IMAGES, "remove"),
        Verb("inspect", "Show what an image says about itself", _IMAGES, "inspect"),
        Verb("check", "Say what would fail in a job, before it runs", _IMAGES, "check"),
        Verb("sbom", "List the packages in an image (SPDX, CycloneDX)", _IMAGES, "sbom"),
        Verb("diff", "Say how two images differ", _IMAGES, "diff"),
        Verb("why", "Say what brought a file into an image", _IMAGES, "why"),
        Verb("view", "Look at an image in a browser", _IMAGES, "view"),
        Verb("install", "Make programs of an image commands, a module, a kernel of Jupyter", _IMAGES, "install"),
        Verb("uninstall", "Take away what install has written", _IMAGES, "uninstall"),
        Verb("run-help", "Show the help text of an image", _IMAGES, "run_help"),
        Verb("sif", "Look into a SIF file, and change it", _IMAGES, "sif"),
        Verb("sign", "Sign an image, so that others see that it is whole", _IMAGES, "sign"),
        Verb("verify", "Check who has signed an image, and that it is whole", _IMAGES, "verify"),
        Verb("overlay", "Make images that take what containers write", _IMAGES, "overlay"),
        Verb("stage", "Copy an image to the nodes of a job", _GENERAL, "stage"),
        Verb("cache", "Show and remove what is kept to be used again", _GENERAL, "cache"),
        Verb("linger", "Show and end what keeps images mounted", _GENERAL, "linger"),
        Verb("key", "Keep the keys that sign images, and those whose signatures count", _GENERAL, "key"),
        Verb("keyserver", "Say which servers are asked for keys", _GENERAL, "keyserver"),
        Verb("registry", "Log in to registries of images, and out", _GENERAL, "registry"),
        Verb("remote", "Say which library is asked, and log in to it", _GENERAL, "remote"),
        Verb("search", "Look for images in a library", _GENERAL, "search"),
        Verb("tag", "Give an image of a registry more tags", _GENERAL, "tag"),
        Verb("delete", "Remove an image from a library or registry", _GENERAL, "delete"),
        Verb("capability", "Say which capabilities users may add", _GENERAL, "capability"),
        Verb("migrate", "Take over what Apptainer has of a user or a site", _GENERAL, "migrate"),
        Verb("config", "Change the configuration, and the ids of users", _GENERAL, "config"),
        Verb("doctor", "Say what is wrong with this installation, and what mends it", _GENERAL, "doctor"),
        Verb("help", "Show this page, or the page of a verb", _GENERAL, "help"),
        Verb("version", "Print the version", _GENERAL, "version"),
        Verb("completion", "Print the completion script of a shell", _GENERAL, "completion"),
        Verb("launch", "Launch what is not an image file", _GENERAL, "launch", hidden=True),
        Verb("keys", "The same as key", _GENERAL, "key", hidden=True),
        Verb("caps", "The same as capability", _GENERAL, "capability", hidden=True),
        Verb("complete", "Say what could follow", _GENERAL, "complete", hidden=True),
        Verb("answer", "Answer what a launch asks", _GENERAL, "answer", hidden=True),
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
