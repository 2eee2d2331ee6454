"""The options of commands as keywords, by their types.

Written by scripts/write_api_options.py, which reads the tables of options.
"""

import os
from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypedDict

Text: TypeAlias = str | int | float | os.PathLike[str]
"""One value: as it would be typed; a path is just that path, whatever letters are in it."""
Texts: TypeAlias = Text | Iterable[Text]
"""One value or several."""

class CallOptions(TypedDict, total=False):
    """Those that each call in a container may have its own of."""

    app: Text
    """Run this application (SCIF) of the image"""
    cleanenv: bool
    """Keep the variables of the host out of the container"""
    cwd: Text
    """Directory in the container where the program starts"""
    env: Texts | Mapping[str, Text]
    """Set variables in the container, over those of the image; a value with a comma is quoted as in CSV"""
    env_file: Texts
    """Set the variables that this shell script of assignments sets; --env goes before it"""
    keep_fd: Texts
    """File descriptors beside 0, 1 and 2 that the program gets too, or 'all'"""
    new_session: bool
    """Start the program in a session of its own, so that it cannot type into the terminal"""
    no_eval: bool
    """Take injected variables and arguments literally, without shell evaluation"""
    no_umask: bool
    """Start with umask 0022 in place of the caller's"""

class ExecOptions(CallOptions, total=False):
    """Those of `singularity exec`."""

    add_caps: Texts
    """Capabilities that the program gets, or 'all': for root, and in user namespaces for whom root allows it
    (capability add)"""
    allow_paths: Texts
    """Of all that is not the image the program and all that it starts can open these paths of the container alone,
    which they write unless ':ro' follows; by Landlock (Linux 6.2)"""
    allow_setuid: bool
    """Let setuid programs of the image work; root only"""
    apply_cgroups: Text
    """The limits that a TOML file of OCI's resources names"""
    arch: Text
    """The image for this architecture, such as arm64"""
    arch_variant: Text
    """And for this variant of it, such as v7"""
    authfile: Text
    """Credentials for registries, in place of the usual files"""
    bind: Texts
    """Make a path of the host visible in the container; several separated by commas, '\\:' and '\\,' stand for the
    characters themselves; OPTIONS: ro, rw, nonested (launches in the container are not told of it), image-src=DIR
    and id=N (a directory, a partition of the image that SOURCE is)"""
    blkio_weight: Text
    """Share of the disks where they are contended for, from 10 to 1000"""
    blkio_weight_device: Texts
    """The same of one disk"""
    cdi_dirs: Texts
    """Directories of such specifications, in place of /etc/cdi and /var/run/cdi"""
    compat: bool
    """Behave as OCI runtimes do: --containall --no-init --no-umask --no-eval --writable-tmpfs, in the WORKDIR and as
    the USER of an image of Docker or OCI"""
    compat32: bool
    """With --nv or --rocm also the driver's libraries for programs of 32 bits, in /.singularity.d/libs32"""
    contain: bool
    """A minimal /dev, and empty /tmp, /var/tmp and home directory in place of the host's"""
    containall: bool
    """--contain, a clean environment, and PID and IPC namespaces of its own"""
    cpu_shares: Text
    """Share of the processors where they are contended for, from 2 to 262144; 1024 is usual"""
    cpus: Text
    """As much time as so many processors have, such as 1.5"""
    cpuset_cpus: Text
    """These processors only, such as 0-3,8"""
    cpuset_mems: Text
    """Memory of these nodes only"""
    data: Texts
    """Show all of an image that holds data, read-only: a squashfs or ext3 file, or the data partition of a SIF"""
    deny_net: bool
    """The program and all that it starts have no network: no sockets but those of processes of this machine
    (AF_UNIX)"""
    device: Texts
    """Bring a device in as the site's specifications say (CDI), such as nvidia.com/gpu=0"""
    disable_cache: bool
    """Take nothing from the cache of images, keep nothing in it"""
    dns: Texts
    """Name servers for the container's resolv.conf, as IP addresses"""
    docker_host: Text
    """The daemon of docker-daemon: names, unix:///PATH or tcp://HOST:PORT"""
    drop_caps: Texts
    """Capabilities that the program does not get, or 'all': of those of root and of --fakeroot"""
    exit_statuses: Text
    """How it ends where the program cannot be started: with 127 or 126 as in a shell, or with 255 as elsewhere in
    the family"""
    fabric: Text
    """Whose libraries for InfiniBand and other fabrics are used: the container's, which is the default, the host's,
    or with auto the host's where the container has none or older ones"""
    fakeroot: bool
    """Appear as root in the container, with the rights of the caller and the subordinate ids that the site gives him"""
    fusemount: Texts
    """Mount a file system that a FUSE program of yours serves, in a user namespace; TYPE is host or container, which
    has the program, with -daemon where it goes to the background by itself; implies --pid"""
    home: Text
    """Use this directory of the host as the home directory, at TARGET in the container"""
    host_cmd: Texts
    """Commands of the host that programs in the container can call, such as sbatch,squeue: of those that the site
    allows ('host commands')"""
    hostname: Text
    """Host name in the container; implies --uts"""
    intel_hpu: bool
    """Bring Intel Gaudi devices in, those that HABANA_VISIBLE_DEVICES names, or all"""
    ipc: bool
    """An IPC namespace of its own"""
    keep_privs: bool
    """Keep every capability; root only"""
    lazy: bool
    """Start an image of a registry or a web server before it is there: what is read is fetched when it is read"""
    library: Text
    """The server of library:// names without one"""
    linger: Text
    """Keep the image mounted for this long after its last use (60s, 5m, 1h), by a small process of yours, for
    launches to come; 0: no longer than it is used"""
    memory: Text
    """At most this much memory: bytes, or 100M, 1.5G"""
    memory_reservation: Text
    """So much memory is taken away last"""
    memory_swap: Text
    """At most this much memory and swap space together; -1: any swap space"""
    mount: Texts
    """The same as --bind in long form; a value with a comma is quoted as in CSV"""
    mpi: Text
    """Whose MPI a program uses: the container's, which is the default, or the host's in its place; with auto the
    host's where it fits, and with host a line says why where it does not"""
    net: bool
    """A network namespace of its own, with a loopback interface only"""
    netns_path: Text
    """Enter the network namespace at this path, as ip-netns(8) makes it; for root"""
    network: Texts
    """The network of the container: none, which --net is too, the host's, or with bridge (or fakeroot) one of its
    own that pasta or slirp4netns carries; for root those of the site, which plugins of CNI set up"""
    network_args: Texts
    """Forward a port of the host to the container, or /udp; implies --network bridge; for root also NAME=VALUE for
    the plugins"""
    no_compat: bool
    """Leave WORKDIR and USER of the image unused, even where the site's configuration wants them"""
    no_home: bool
    """Leave the home directory out"""
    no_https: bool
    """The registry or library that is named speaks plain http"""
    no_init: bool
    """In a PID namespace the program is process 1 itself"""
    no_mount: Texts
    """Leave a mount out: proc, sys, dev, devpts, home, tmp, hostfs, cwd, bind-paths, or the path of one 'bind path'"""
    no_pid: bool
    """No PID namespace, even where another option implies one"""
    no_privs: bool
    """Give up every capability; root only"""
    nv: bool
    """Bring the NVIDIA driver libraries and programs of the host in"""
    nvccli: bool
    """Bring in what nvidia-container-cli lists for the devices of NVIDIA_VISIBLE_DEVICES, in place of --nv; implies
    --writable-tmpfs"""
    offline: bool
    """Where the registry cannot be reached, use what the image's name meant last, with a warning"""
    oom_kill_disable: bool
    """Of version 1 of control groups"""
    overlay: Texts
    """Lay a directory or an image over the container; the first one named is on top, one may be writable"""
    pem_path: Text
    """The private RSA key, in PEM, that opens an encrypted image"""
    pid: bool
    """A PID namespace of its own"""
    pids_limit: Text
    """At most so many processes and threads; -1: any"""
    platform: Text
    """The image for this platform, such as linux/arm64"""
    read_only_home: bool
    """The program and all that it starts can write nothing in the home directory, under whichever path; by Landlock
    (Linux 6.2)"""
    record: Text
    """Write down what a later run needs to be the same: the image's digest, the program, its variables, and the
    digests of the files outside the image that it reads and writes; singularity rerun takes it"""
    record_host: bool
    """With --record, also the name of the host and of the user"""
    record_limit: Text
    """With --record, no digests of files larger than this: bytes, or 100M, 1.5G"""
    rocm: bool
    """Bring the AMD driver libraries and programs of the host in"""
    scratch: Texts
    """An empty writable directory at this path in the container, gone afterwards unless --workdir is given"""
    security: Texts
    """seccomp:FILE, a profile of system calls as Docker and OCI have them; apparmor:PROFILE or selinux:LABEL; uid:N
    and gid:N[:N...], the ids that the program has, for root and in user namespaces that have them"""
    tmpdir: Text
    """Where temporary files are made"""
    trace: Text
    """Add the names of the image that are used to FILE, for build --only; in a user namespace"""
    underlay: bool
    """Make missing bind points without overlayfs"""
    userns: bool
    """Start through a user namespace, without the setuid program"""
    uts: bool
    """A UTS (host name) namespace of its own"""
    verify_cache: bool
    """Read what the cache has of the image again, and make or fetch anew what is damaged"""
    workdir: Text
    """Directory of the host that holds /tmp, /var/tmp, home (with --contain), scratch directories and what
    --writable-tmpfs takes"""
    writable: bool
    """Write into the image itself"""
    writable_tmpfs: bool
    """Let the program write into the image, in memory, or with --workdir on its disk; gone afterwards"""

class RunOptions(ExecOptions, total=False):
    """Those of `singularity run`."""

class InstanceOptions(TypedDict, total=False):
    """Those of `singularity instance start`."""

    add_caps: Texts
    """Capabilities that the program gets, or 'all': for root, and in user namespaces for whom root allows it
    (capability add)"""
    allow_paths: Texts
    """Of all that is not the image the program and all that it starts can open these paths of the container alone,
    which they write unless ':ro' follows; by Landlock (Linux 6.2)"""
    allow_setuid: bool
    """Let setuid programs of the image work; root only"""
    app: Text
    """Run this application (SCIF) of the image"""
    apply_cgroups: Text
    """The limits that a TOML file of OCI's resources names"""
    arch: Text
    """The image for this architecture, such as arm64"""
    arch_variant: Text
    """And for this variant of it, such as v7"""
    authfile: Text
    """Credentials for registries, in place of the usual files"""
    bind: Texts
    """Make a path of the host visible in the container; several separated by commas, '\\:' and '\\,' stand for the
    characters themselves; OPTIONS: ro, rw, nonested (launches in the container are not told of it), image-src=DIR
    and id=N (a directory, a partition of the image that SOURCE is)"""
    blkio_weight: Text
    """Share of the disks where they are contended for, from 10 to 1000"""
    blkio_weight_device: Texts
    """The same of one disk"""
    boot: bool
    """Start /sbin/init of the image as the first process, with --contain, --uts and --net; root only"""
    cdi_dirs: Texts
    """Directories of such specifications, in place of /etc/cdi and /var/run/cdi"""
    cleanenv: bool
    """Keep the variables of the host out of the container"""
    compat: bool
    """Behave as OCI runtimes do: --containall --no-init --no-umask --no-eval --writable-tmpfs, in the WORKDIR and as
    the USER of an image of Docker or OCI"""
    compat32: bool
    """With --nv or --rocm also the driver's libraries for programs of 32 bits, in /.singularity.d/libs32"""
    contain: bool
    """A minimal /dev, and empty /tmp, /var/tmp and home directory in place of the host's"""
    containall: bool
    """--contain, a clean environment, and PID and IPC namespaces of its own"""
    cpu_shares: Text
    """Share of the processors where they are contended for, from 2 to 262144; 1024 is usual"""
    cpus: Text
    """As much time as so many processors have, such as 1.5"""
    cpuset_cpus: Text
    """These processors only, such as 0-3,8"""
    cpuset_mems: Text
    """Memory of these nodes only"""
    data: Texts
    """Show all of an image that holds data, read-only: a squashfs or ext3 file, or the data partition of a SIF"""
    deny_net: bool
    """The program and all that it starts have no network: no sockets but those of processes of this machine
    (AF_UNIX)"""
    device: Texts
    """Bring a device in as the site's specifications say (CDI), such as nvidia.com/gpu=0"""
    disable_cache: bool
    """Take nothing from the cache of images, keep nothing in it"""
    dns: Texts
    """Name servers for the container's resolv.conf, as IP addresses"""
    docker_host: Text
    """The daemon of docker-daemon: names, unix:///PATH or tcp://HOST:PORT"""
    drop_caps: Texts
    """Capabilities that the program does not get, or 'all': of those of root and of --fakeroot"""
    env: Texts | Mapping[str, Text]
    """Set variables in the container, over those of the image; a value with a comma is quoted as in CSV"""
    env_file: Texts
    """Set the variables that this shell script of assignments sets; --env goes before it"""
    exit_statuses: Text
    """How it ends where the program cannot be started: with 127 or 126 as in a shell, or with 255 as elsewhere in
    the family"""
    fabric: Text
    """Whose libraries for InfiniBand and other fabrics are used: the container's, which is the default, the host's,
    or with auto the host's where the container has none or older ones"""
    fakeroot: bool
    """Appear as root in the container, with the rights of the caller and the subordinate ids that the site gives him"""
    fusemount: Texts
    """Mount a file system that a FUSE program of yours serves, in a user namespace; TYPE is host or container, which
    has the program, with -daemon where it goes to the background by itself; implies --pid"""
    home: Text
    """Use this directory of the host as the home directory, at TARGET in the container"""
    host_cmd: Texts
    """Commands of the host that programs in the container can call, such as sbatch,squeue: of those that the site
    allows ('host commands')"""
    hostname: Text
    """Host name in the container; implies --uts"""
    intel_hpu: bool
    """Bring Intel Gaudi devices in, those that HABANA_VISIBLE_DEVICES names, or all"""
    ipc: bool
    """An IPC namespace of its own"""
    keep_fd: Texts
    """File descriptors beside 0, 1 and 2 that the program gets too, or 'all'"""
    keep_privs: bool
    """Keep every capability; root only"""
    lazy: bool
    """Start an image of a registry or a web server before it is there: what is read is fetched when it is read"""
    library: Text
    """The server of library:// names without one"""
    memory: Text
    """At most this much memory: bytes, or 100M, 1.5G"""
    memory_reservation: Text
    """So much memory is taken away last"""
    memory_swap: Text
    """At most this much memory and swap space together; -1: any swap space"""
    mount: Texts
    """The same as --bind in long form; a value with a comma is quoted as in CSV"""
    mpi: Text
    """Whose MPI a program uses: the container's, which is the default, or the host's in its place; with auto the
    host's where it fits, and with host a line says why where it does not"""
    net: bool
    """A network namespace of its own, with a loopback interface only"""
    netns_path: Text
    """Enter the network namespace at this path, as ip-netns(8) makes it; for root"""
    network: Texts
    """The network of the container: none, which --net is too, the host's, or with bridge (or fakeroot) one of its
    own that pasta or slirp4netns carries; for root those of the site, which plugins of CNI set up"""
    network_args: Texts
    """Forward a port of the host to the container, or /udp; implies --network bridge; for root also NAME=VALUE for
    the plugins"""
    new_session: bool
    """Start the program in a session of its own, so that it cannot type into the terminal"""
    no_compat: bool
    """Leave WORKDIR and USER of the image unused, even where the site's configuration wants them"""
    no_eval: bool
    """Take injected variables and arguments literally, without shell evaluation"""
    no_home: bool
    """Leave the home directory out"""
    no_https: bool
    """The registry or library that is named speaks plain http"""
    no_init: bool
    """In a PID namespace the program is process 1 itself"""
    no_mount: Texts
    """Leave a mount out: proc, sys, dev, devpts, home, tmp, hostfs, cwd, bind-paths, or the path of one 'bind path'"""
    no_privs: bool
    """Give up every capability; root only"""
    no_umask: bool
    """Start with umask 0022 in place of the caller's"""
    nv: bool
    """Bring the NVIDIA driver libraries and programs of the host in"""
    nvccli: bool
    """Bring in what nvidia-container-cli lists for the devices of NVIDIA_VISIBLE_DEVICES, in place of --nv; implies
    --writable-tmpfs"""
    offline: bool
    """Where the registry cannot be reached, use what the image's name meant last, with a warning"""
    oom_kill_disable: bool
    """Of version 1 of control groups"""
    overlay: Texts
    """Lay a directory or an image over the container; the first one named is on top, one may be writable"""
    pem_path: Text
    """The private RSA key, in PEM, that opens an encrypted image"""
    pid_file: Text
    """Write the number of the instance's first process there"""
    pids_limit: Text
    """At most so many processes and threads; -1: any"""
    platform: Text
    """The image for this platform, such as linux/arm64"""
    read_only_home: bool
    """The program and all that it starts can write nothing in the home directory, under whichever path; by Landlock
    (Linux 6.2)"""
    rocm: bool
    """Bring the AMD driver libraries and programs of the host in"""
    scratch: Texts
    """An empty writable directory at this path in the container, gone afterwards unless --workdir is given"""
    security: Texts
    """seccomp:FILE, a profile of system calls as Docker and OCI have them; apparmor:PROFILE or selinux:LABEL; uid:N
    and gid:N[:N...], the ids that the program has, for root and in user namespaces that have them"""
    tmpdir: Text
    """Where temporary files are made"""
    underlay: bool
    """Make missing bind points without overlayfs"""
    userns: bool
    """Start through a user namespace, without the setuid program"""
    uts: bool
    """A UTS (host name) namespace of its own"""
    verify_cache: bool
    """Read what the cache has of the image again, and make or fetch anew what is damaged"""
    workdir: Text
    """Directory of the host that holds /tmp, /var/tmp, home (with --contain), scratch directories and what
    --writable-tmpfs takes"""
    writable: bool
    """Write into the image itself"""
    writable_tmpfs: bool
    """Let the program write into the image, in memory, or with --workdir on its disk; gone afterwards"""

class FetchOptions(TypedDict, total=False):
    """Those of fetching an image."""

    arch: Text
    """The image for this architecture, such as arm64"""
    arch_variant: Text
    """And for this variant of it, such as v7"""
    authfile: Text
    """Credentials for registries, in place of the usual files"""
    disable_cache: bool
    """Take nothing from the cache, keep nothing in it"""
    docker_host: Text
    """The daemon of docker-daemon: names, unix:///PATH or tcp://HOST:PORT"""
    library: Text
    """The server of library:// names without one"""
    no_https: bool
    """The registry or library that is named speaks plain http"""
    offline: bool
    """Where the registry cannot be reached, use what the image's name meant last, with a warning"""
    platform: Text
    """The image for this platform, such as linux/arm64"""
    tmpdir: Text
    """Where temporary files are made [SINGULARITY_TMPDIR, TMPDIR]"""
    verify_cache: bool
    """Read what the cache has of the image again, and make or fetch anew what is damaged"""

class PullOptions(FetchOptions, total=False):
    """Those of `singularity pull`."""

    base: bool
    """Fetch the base of an image that lies on one (build --on), too, where it is not here"""
    dir: Text
    """Put the file there; the directory is made where it is missing"""
    force: bool
    """Replace the file where there is one"""
    sandbox: bool
    """Make a directory"""

class BuildOptions(TypedDict, total=False):
    """Those of `singularity build`."""

    arch: Text
    """Build for this architecture, such as arm64, where the kernel can run its programs"""
    authfile: Text
    """Credentials for registries, in place of the usual files"""
    bind: Texts
    """Show a file or directory of the host to %post and %test; repeat, or use commas, for several"""
    build_arg: Texts | Mapping[str, Text]
    """Value of {{ NAME }}, or of an ARG, in SOURCE; repeat, or use commas, for several"""
    build_arg_file: Text
    """Such values, one NAME=VALUE a line"""
    chunks: bool
    """Pack each file apart, so that another version of the image shares what they have in common: push --chunks"""
    compression: Text
    """Of squashfs: zstd, gzip, xz, lz4, lzo"""
    data: bool
    """Make a SIF file of data, from a directory, a squashfs or an ext3 file, for launches with --data"""
    disable_cache: bool
    """Take nothing from the cache, keep nothing"""
    docker_host: Text
    """The daemon of docker-daemon: names, unix:///PATH or tcp://HOST:PORT"""
    encrypt: bool
    """Encrypt TARGET, a SIF file, with the key below; launches take the same, or the private half of it"""
    erofs: bool
    """Make the file system in a SIF file an EROFS, and no squashfs"""
    fakeroot: bool
    """Build in a user namespace; what ordinary users do anyway, but that it implies --keep-owners"""
    file: Text
    """Build this Dockerfile; SOURCE is its context then, a directory"""
    fix_perms: bool
    """The owner may read and write all files"""
    force: bool
    """Replace TARGET, and labels of the image that it is built on"""
    format: Text
    """sif, sandbox, squashfs, erofs, ext3 or tar; without it the suffix of TARGET says"""
    keep: Texts
    """Keep these files too, and all below directories: a path, or with *, ? and [...] many; repeat for several"""
    keep_owners: bool
    """Files of a directory keep their owners, as subordinate ids of yours; else they, and it, are yours to remove"""
    keep_sources: Text
    """Keep what is fetched, images too, in DIR; with --locked, take it from there"""
    library: Text
    """The server of library:// names without one"""
    lock: bool | str
    """Write down by digest all that is fetched, in FILE or beside SOURCE: x.lock for x.def; implies --reproducible"""
    locked: bool | str
    """Take exactly what the lock says, and make the same file as then"""
    mksquashfs_args: Text
    """Further arguments of mksquashfs, such as '-b 256K'"""
    mount: Texts
    """The same, as type=bind,source=PATH,destination=PATH[,ro]"""
    no_cache: bool
    """Do every step anew, and replace what the cache has of it"""
    no_cleanup: bool
    """Keep the working directory, and say where it is"""
    no_https: bool
    """The registry or library that is named speaks plain http"""
    notest: bool
    """Leave %test out"""
    nv: bool
    """Show them the NVIDIA driver and devices"""
    nvccli: bool
    """The same as --nv"""
    offline: bool
    """Where the registry cannot be reached, use what the image's name meant last, with a warning"""
    on: Text
    """Make a SIF file of only what differs from this image, a file or a URI, which launches find by its digest"""
    only: Texts
    """Leave out of SOURCE, an image file, what launches with --trace FILE have not used; repeat for several traces"""
    pem_path: Text
    """An RSA key in PEM: the public half encrypts, the private half opens an encrypted SOURCE"""
    provenance: bool
    """Put into TARGET, a SIF file, what it was built from and how; --sign with a key in PEM signs that too"""
    reproducible: bool
    """The same inputs make the same file: no time but that of the source image, or SOURCE_DATE_EPOCH"""
    rocm: bool
    """Show them the AMD driver and devices"""
    sandbox: bool
    """Make a directory"""
    sbom: bool | str
    """Put into TARGET, a SIF file, the list of its packages: spdx, or cyclonedx"""
    secret: Texts
    """A secret for RUN --mount=type=secret,id=ID; neither the image nor the cache has it"""
    section: Texts
    """Use these sections only, of setup, post, files, environment, test and labels; or all, or none"""
    sign: bool | str
    """Sign TARGET with your key of OpenPGP, or its number in key list -s, a PEM or SSH key file, or agent"""
    size: Text
    """Size of an ext3 image; else what it needs"""
    snapshot: Texts
    """With --locked, where a mirror's past is: {archive} and {time} in URL are its last word and the lock's date"""
    target: Text
    """Build this stage of it, by name or number"""
    tmpdir: Text
    """Where the working directory is made [SINGULARITY_TMPDIR, TMPDIR]"""
    update: bool
    """Run the sections of SOURCE on the directory TARGET, without its header, which may be missing"""
    verify_cache: bool
    """Read what the cache has of the image again, and make or fetch anew what is damaged"""
    warn_unused_build_args: bool
    """A value that SOURCE has no use for is no failure"""
    watch_starts: Text
    """How long interpreters and modules in it may be started, to store first what they read; 0: none [20]"""
    whole_packages: bool
    """Keep all files of packages of which one is used"""
    writable: bool
    """Make an image that can be written to: ext3"""
    writable_tmpfs: bool
    """What %test writes is thrown away"""

class PushOptions(TypedDict, total=False):
    """Those of `singularity push`."""

    add: bool
    """Add it to the images of the tag, as the one for its architecture"""
    annotation: Texts | Mapping[str, Text]
    """An annotation of the manifest; repeatable"""
    authfile: Text
    """Credentials for registries, in place of the usual files"""
    chunks: bool
    """Put an index of its chunks beside it, so that others fetch only what changed; for oras://"""
    citation: Text
    """CITATION.cff of the image, for doi:"""
    description: Text
    """Say what it is, in an annotation of the manifest"""
    force: bool
    """Replace the file of oci-archive or docker-archive that is there"""
    layer_format: Text
    """How the layer is compressed: gzip, which everybody reads, zstd, or tar for not at all"""
    library: Text
    """The library of library://"""
    no_https: bool
    """The registry or library that is named speaks plain http"""
    publish: bool
    """Publish the draft of doi:, which nobody can take back"""
    tmpdir: Text
    """Where the layer is kept until it is there"""

class VerifyOptions(TypedDict, total=False):
    """Those of `singularity verify` that say whose signatures count."""

    certificate: Text
    """Those by its owner count"""
    certificate_intermediates: Text
    """Certificates between it and a root"""
    certificate_roots: Text
    """The roots that count, in place of the system's"""
    key: Text
    """Signatures by this public key in PEM count"""
    keysdir: Text
    """Where your key rings are"""
    local: bool
    """Ask no key server"""
    ocsp_verify: bool
    """Ask whoever issued the certificates whether they were revoked"""
    ssh: Text
    """Signatures by those in this file of allowed signers count"""
    url: Text
    """The key server, in place of the configured ones"""
