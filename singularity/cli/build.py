"""`singularity build TARGET DEFINITION`: an image from a definition file, or from another image.

Only the options are here; what is done with them is in `building`, which the help does not need.
"""

from functools import partial
from pathlib import Path
from typing import Any

import click

from singularity import console
from singularity.build.request import Target
from singularity.cli.command import PATH, OptionalValue, option, verb
from singularity.cli.fetching import options as fetching_options

BESIDE = "beside SOURCE"  # what --lock and --locked alone mean
OWN_KEY = "openpgp"  # what --sign alone means
_ABOUT_TARGET = (
    "TARGET becomes a SIF file, or what its suffix or an option says; it is whole or as it was before, whatever "
    "happens. Steps that an earlier build has done with the same inputs come from the cache: after a mistake in "
    "%post, only %post runs again."
)
_target = partial(option, group="What TARGET becomes")
_sections = partial(option, group="Sections")
_locks = partial(option, group="Locked builds")
_keys = partial(option, group="Encryption")
_values = partial(option, group="Values of templates")
_dockerfiles = partial(option, group="Dockerfiles")
_scripts = partial(option, group="What scripts of the build see")
_work = partial(option, group="Cache and working directory")
_smaller = partial(option, group="Smaller images")
_accepted = partial(option, hidden=True, expose_value=False)


@verb(
    description=(
        (
            "SOURCE is a definition file, a Dockerfile, or what is made into an image as it is: an image, a directory, "
            "an archive, or the URI of one, as pull has them; an http or https URL may be a definition file's, too."
        ),
        _ABOUT_TARGET,
        "Ordinary users build in a user namespace, with subordinate ids (/etc/subuid) or with emulated owners.",
    ),
    examples=(
        "sudo singularity build debian.sif debian.def",
        "singularity build --dry-run tool.sif tool.def",
        "singularity build --sandbox tools/ base.sif",
        "singularity build --update tools/ more.def",
        "singularity build --build-arg VERSION=1.2 --force tool.sif tool.def",
        "singularity build tool.tar.gz tool.sif",
        "singularity build --sandbox debian/ docker://debian:stable",
        "singularity build tool.sif Dockerfile",
        "singularity build --file docker/Dockerfile.gpu tool.sif .",
        "singularity build --data genomes.sif genomes/",
        "singularity build --only trace.json slim.sif big.sif",
    ),
)
@option(
    "-F",
    "--force",
    is_flag=True,
    variables="FORCE",
    help="Replace TARGET, and labels of the image that it is built on",
    group="Options",
)
@option(
    "--dry-run",
    cls=OptionalValue,
    bare="text",
    default="",
    metavar="text|json",
    help="Check SOURCE, print what would be done, each step with its reason, and do nothing",
)
@option("--json", "as_json", is_flag=True, help="Tell what happens as JSON on standard output, an event a line")
@option(
    "-f",
    "--fakeroot",
    is_flag=True,
    variables="FAKEROOT",
    help="Build in a user namespace; what ordinary users do anyway, but that it implies --keep-owners",
    group="Options",
)
@option(
    "--arch",
    "architecture",
    default="",
    metavar="NAME",
    variables="BUILD_ARCH",
    help="Build for this architecture, such as arm64, where the kernel can run its programs",
    group="Options",
)
@_target("-s", "--sandbox", is_flag=True, variables="SANDBOX", help="Make a directory")
@_target(
    "-u",
    "--update",
    is_flag=True,
    variables="UPDATE",
    help="Run the sections of SOURCE on the directory TARGET, without its header, which may be missing",
)
@_target(
    "--format",
    "wanted",
    type=click.Choice([each.value for each in Target]),
    metavar="NAME",
    help="sif, sandbox, squashfs, erofs, ext3 or tar; without it the suffix of TARGET says",
)
@_target(
    "--on",
    default="",
    metavar="IMAGE",
    variables="BUILD_ON",
    help="Make a SIF file of only what differs from this image, a file or a URI, which launches find by its digest",
)
@_target("--erofs", is_flag=True, help="Make the file system in a SIF file an EROFS, and no squashfs")
@_target(
    "--data",
    is_flag=True,
    variables="DATA",
    help="Make a SIF file of data, from a directory, a squashfs or an ext3 file, for launches with --data",
)
@_target("-w", "--writable", is_flag=True, help="Make an image that can be written to: ext3")
@_target("--size", type=click.IntRange(1, 1 << 30), metavar="MiB", help="Size of an ext3 image; else what it needs")
@_target("--compression", default="", metavar="NAME", help="Of squashfs: zstd, gzip, xz, lz4, lzo")
@_target(
    "--mksquashfs-args",
    "arguments",
    default="",
    metavar="WORDS",
    variables="MKSQUASHFS_ARGS",
    help='Further arguments of mksquashfs, such as "-b 256K"',
)
@_target(
    "--chunks",
    "in_chunks",
    is_flag=True,
    variables="CHUNKS",
    help="Pack each file apart, so that another version of the image shares what they have in common: push --chunks",
)
@_target(
    "--watch-starts",
    "watch",
    type=click.IntRange(0, 3600),
    default=None,
    metavar="SECONDS",
    variables="WATCH_STARTS",
    help="How long interpreters and modules in it may be started, to store first what they read; 0: none [20]",
)
@_target(
    "--reproducible",
    is_flag=True,
    variables="REPRODUCIBLE",
    help="The same inputs make the same file: no time but that of the source image, or SOURCE_DATE_EPOCH",
)
@_target(
    "--keep-owners",
    is_flag=True,
    help="Files of a directory keep their owners, as subordinate ids of yours; else they, and it, are yours to remove",
)
@_target(
    "--sign",
    cls=OptionalValue,
    bare=OWN_KEY,
    default="",
    metavar="KEY",
    help="Sign TARGET with your key of OpenPGP, or its number in key list -s, a PEM or SSH key file, or agent",
)
@_target(
    "--provenance",
    is_flag=True,
    variables="PROVENANCE",
    help="Put into TARGET, a SIF file, what it was built from and how; --sign with a key in PEM signs that too",
)
@_target(
    "--sbom",
    cls=OptionalValue,
    bare="spdx",
    default="",
    metavar="FORM",
    variables="SBOM",
    help="Put into TARGET, a SIF file, the list of its packages: spdx, or cyclonedx",
)
@_target("--fix-perms", "fix", is_flag=True, variables="FIXPERMS", help="The owner may read and write all files")
@_smaller(
    "--only",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Leave out of SOURCE, an image file, what launches with --trace FILE have not used; repeat for several traces",
)
@_smaller(
    "--keep",
    multiple=True,
    metavar="PATTERN",
    help="Keep these files too, and all below directories: a path, or with *, ? and [...] many; repeat for several",
)
@_smaller("--whole-packages", is_flag=True, help="Keep all files of packages of which one is used")
@_locks(
    "--lock",
    cls=OptionalValue,
    bare=BESIDE,
    default="",
    metavar="FILE",
    help="Write down by digest all that is fetched, in FILE or beside SOURCE: x.lock for x.def; implies --reproducible",
)
@_locks(
    "--locked",
    cls=OptionalValue,
    bare=BESIDE,
    default="",
    metavar="FILE",
    help="Take exactly what the lock says, and make the same file as then",
)
@_locks(
    "--keep-sources",
    "keep_sources",
    type=PATH,
    metavar="DIR",
    help="Keep what is fetched, images too, in DIR; with --locked, take it from there",
)
@_locks(
    "--snapshot",
    multiple=True,
    metavar="URL",
    help="With --locked, where a mirror's past is: {archive} and {time} in URL are its last word and the lock's date",
)
@_keys(
    "-e",
    "--encrypt",
    "encrypt",
    is_flag=True,
    variables="ENCRYPT",
    help="Encrypt TARGET, a SIF file, with the key below; launches take the same, or the private half of it",
)
@_keys(
    "--passphrase",
    is_flag=True,
    help="Ask for a passphrase; SINGULARITY_ENCRYPTION_PASSPHRASE has it where nobody is asked",
)
@_keys(
    "--pem-path",
    "pem_path",
    default="",
    metavar="FILE",
    variables="ENCRYPTION_PEM_PATH",
    help="An RSA key in PEM: the public half encrypts, the private half opens an encrypted SOURCE",
)
@_sections(
    "--section",
    multiple=True,
    metavar="NAME[,...]",
    variables="SECTION",
    help="Use these sections only, of setup, post, files, environment, test and labels; or all, or none",
)
@_sections("-T", "--notest", is_flag=True, variables="NOTEST", help="Leave %test out")
@_values(
    "--build-arg",
    "build_arg",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of {{ NAME }}, or of an ARG, in SOURCE; repeat, or use commas, for several",
)
@_values("--build-arg-file", type=PATH, metavar="FILE", help="Such values, one NAME=VALUE a line")
@_values("--warn-unused-build-args", "unused", is_flag=True, help="A value that SOURCE has no use for is no failure")
@_dockerfiles(
    "--file", type=PATH, metavar="FILE", help="Build this Dockerfile; SOURCE is its context then, a directory"
)
@_dockerfiles("--target", "stage", default="", metavar="STAGE", help="Build this stage of it, by name or number")
@_dockerfiles(
    "--secret",
    multiple=True,
    metavar="id=ID,src=FILE|env=NAME",
    help="A secret for RUN --mount=type=secret,id=ID; neither the image nor the cache has it",
)
@_scripts(
    "-B",
    "--bind",
    "bind",
    multiple=True,
    metavar="PATH[:TARGET[:ro]]",
    variables="BIND BINDPATH",
    help="Show a file or directory of the host to %post and %test; repeat, or use commas, for several",
)
@_scripts(
    "--mount",
    "mount",
    multiple=True,
    metavar="SPEC",
    variables="MOUNT",
    help="The same, as type=bind,source=PATH,destination=PATH[,ro]",
)
@_scripts("--nv", is_flag=True, variables="NV", help="Show them the NVIDIA driver and devices")
@_scripts("--rocm", is_flag=True, variables="ROCM", help="Show them the AMD driver and devices")
@_scripts("--writable-tmpfs", is_flag=True, variables="WRITABLE_TMPFS", help="What %test writes is thrown away")
@_work(
    "--no-cache", is_flag=True, variables="NO_CACHE", help="Do every step anew, and replace what the cache has of it"
)
@_work("--disable-cache", is_flag=True, variables="DISABLE_CACHE", help="Take nothing from the cache, keep nothing")
@_work("--tmpdir", default="", metavar="DIR", help="Where the working directory is made [SINGULARITY_TMPDIR, TMPDIR]")
@_work("--no-cleanup", is_flag=True, variables="NO_CLEANUP", help="Keep the working directory, and say where it is")
@_scripts("--nvccli", is_flag=True, variables="NVCCLI", help="The same as --nv")
@_accepted("--userns", is_flag=True, variables="USERNS")
@fetching_options
@_accepted("--ignore-proot", is_flag=True)
@_accepted("--ignore-fakeroot-command", is_flag=True)
@_accepted("--ignore-userns", is_flag=True)
@click.argument("target", type=PATH)
@click.argument("source_", metavar="SOURCE")
def command(target: Path, source_: str, *, as_json: bool, **options: Any) -> None:
    """Builds the image."""
    from singularity.cli import building

    if as_json:
        console.begin_events()
    building.build(target, source_, building.Options(**options))
