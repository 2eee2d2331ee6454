"""What says of a Python module that it was removed from the image: Python looks into its lists of directories alone.

So no server of a file system sees that it misses a name. A path configuration file (`site`) in each directory of
packages that stays has Python read the text below, which comes after all that finds modules.
"""

from collections.abc import Iterable

from singularity.image import removed
from singularity.image.metadata import DIRECTORY
from singularity.image.root import Root

_HOOK = f"{DIRECTORY}/removed.py"
_NAME = "singularity-removed.pth"
_PACKAGES = ("site-packages", "dist-packages")

_TEXT = f'''\
# Says in a line that "build --only" has removed a module of Python from this image; finds none.
import os
import sys


class Removed:
    modules = None
    told = set(("sitecustomize", "usercustomize"))  # for these each start looks

    def find_spec(self, name, path=None, target=None):
        if name not in self.told:
            self.told.add(name)
            try:
                self.tell(name.rpartition(".")[2], sys.path if path is None else path)
            except Exception:
                pass
        return None

    def tell(self, name, places):
        if self.modules is None:
            self.modules = self.read()
        for place in places:
            found = self.modules.get(os.path.realpath(place or ".") + "/" + name)
            if found:
                text = "WARNING: %s: not in this image since build --only removed it "
                text += "(build again with --keep '%s', or with a trace of this)\\n"
                sys.stderr.write(text % (found, found))
                break

    def read(self):
        modules = {{}}
        with open("{removed.FILE}", errors="surrogateescape") as file:
            for line in file:
                place, _, name = line.rstrip("\\n").rpartition("/")
                if "." not in name or name.endswith((".py", ".so")):
                    modules.setdefault(place + "/" + name.partition(".")[0], place + "/" + name)
        return modules


sys.singularity_removed = Removed()
sys.meta_path.append(sys.singularity_removed)
'''
_LINE = (
    f"import os, sys; hasattr(sys, 'singularity_removed') or not os.path.isfile('{removed.FILE}') "
    f"or exec(open('{_HOOK}').read(), {{}})\n"
)


def write(root: Root, kept: Iterable[str]) -> None:
    """Into all directories of packages among the paths that stay. Raises OSError."""
    places = [each for each in kept if each.rpartition("/")[2] in _PACKAGES]
    if places:
        root.write(_HOOK, _TEXT.encode())
    for place in places:
        root.make_directory(place)  # where the files are that a launch looks at: the image has it
        root.write(f"{place}/{_NAME}", _LINE.encode())
