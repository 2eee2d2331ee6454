# ruff: noqa: D100, D102, F403, F405, ARG002 - as recipes are written there
from spack.package import *


class SingularityContainers(MakefilePackage):
    """Containers for science: one file, started as the user who starts it, without a daemon."""

    homepage = "https://localhost/singularity"
    url = "file:///srv/singularity-5.0.0.tar.gz"  # the archive of `make dist`

    license("BSD-3-Clause")

    version("5.0.0")

    depends_on("c", type="build")
    depends_on("gmake", type="build")
    depends_on("python@3.11:", type=("build", "run"))
    depends_on("py-pip", type="build")
    depends_on("zstd libs=static,shared")
    depends_on("libdeflate")
    depends_on("openssl")
    depends_on("squashfs", type="run")
    depends_on("e2fsprogs", type="run")

    conflicts("platform=darwin")

    def build(self, spec, prefix):
        make("build", f"PYTHON={spec['python'].command.path}")

    def install(self, spec, prefix):
        """Without privilege: containers start in user namespaces."""
        make("install", f"PREFIX={prefix}", f"PYTHON={spec['python'].command.path}", "HAS_SLURM=")
