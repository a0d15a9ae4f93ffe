"""What pyproject.toml cannot say: a wheel holds the zoo, which lies in examples/zoo here."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

ZOO = Path("examples", "zoo")


class BuildWithZoo(build_py):
    """Copies the graphs and headers of the zoo's entries beside the modules of `refine`."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the checkout's own are found
            return
        target = Path(self.build_lib, "refine", "zoo_entries")
        for header in sorted(ZOO.glob("*/entry.toml")):
            kept = ignore_patterns("*.py", "__pycache__")
            copytree(header.parent, target / header.parent.name, ignore=kept, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithZoo})
