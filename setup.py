"""Adds the launcher to the wheel: programs in bin/ and libexec/singularity/, the configuration in etc/singularity/.

They come without setuid and find each other beside themselves, so they work wherever the environment is. The C is
compiled by the Makefile, the one place that knows how. SINGULARITY_WITHOUT_LAUNCHER=1 makes a wheel of the Python side
alone, which `make install` puts into its private environment.
"""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

from distutils.command.install_data import install_data  # isort: skip  setuptools brings it

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

WITH_LAUNCHER = "SINGULARITY_WITHOUT_LAUNCHER" not in os.environ
COMPILED = Path("build/wheel")
_PACKER = "singularity-pack"
PROGRAMS = {
    "bin/singularity": "singularity",
    "bin/run-singularity": "singularity",
    "libexec/singularity/sexec": "sexec",
    "libexec/singularity/image-server": "image-server",
    "libexec/singularity/root-emulator": "root-emulator",
    "libexec/singularity/host-command": "host-command",
    "libexec/singularity/recorder": "recorder",
    "libexec/singularity/fuse2fs-truncate.so": "fuse2fs-truncate.so",
    f"libexec/singularity/{_PACKER}": _PACKER,  # where its libraries are
}


class Launcher(Distribution):
    """A distribution that belongs to one platform, though no module of it is compiled."""

    def has_ext_modules(self) -> bool:
        """True: the wheel is for this platform."""
        return WITH_LAUNCHER


class Modules(build_py):
    """The modules, and the table of launch options, which is kept with the C.

    Starts from an empty directory: a module removed from the tree must not come back from an earlier build.
    """

    def run(self) -> None:
        """Copies modules and table."""
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        data = Path(self.build_lib, "singularity", "data")
        data.mkdir(parents=True, exist_ok=True)
        shutil.copyfile("launcher/options.def", data / "options.def")


class Programs(install_data):
    """Compiles the launcher and lays it out under the prefix."""

    def run(self) -> None:
        """Lays programs and configuration under `install_dir`."""
        if not WITH_LAUNCHER:
            return
        subprocess.run(["make", "-j2", "launcher", "RELOCATABLE=yes", f"BUILD={COMPILED}"], check=True)
        programs = dict(PROGRAMS)
        if not (COMPILED / _PACKER).exists():
            del programs[f"libexec/singularity/{_PACKER}"]
        files = {target: (COMPILED / source, 0o755) for target, source in programs.items()}
        files |= {
            f"etc/singularity/{source.relative_to('etc')}": (source, 0o644)
            for source in Path("etc").rglob("*")
            if source.is_file()
        }
        for target, (source, mode) in files.items():
            path = Path(self.install_dir, target)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
            path.chmod(mode)
            self.outfiles.append(str(path))


class Wheel(bdist_wheel):
    """Any Python 3 on this platform: the programs do not link to Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """Interpreter, binary interface and platform, as in the name of the wheel."""
        if not WITH_LAUNCHER:
            return ("py3", "none", "any")
        return ("py3", "none", sysconfig.get_platform().replace("-", "_").replace(".", "_"))


setup(
    distclass=Launcher,
    cmdclass={"build_py": Modules, "install_data": Programs, "bdist_wheel": Wheel},
    data_files=[("etc/singularity", [])] if WITH_LAUNCHER else [],
)
