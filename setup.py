"""What pyproject.toml cannot say: trained weights and results lie in ``data/``, and travel inside the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = {"weights": "*.safetensors", "results": "*.json"}  # folder of data/ -> files; see vos_tutorial/places.py


class BuildWithData(build_py):
    """Copies them beside the modules. An editable install needs no copy: it reads the checkout's own."""

    def run(self) -> None:
        package = Path(self.build_lib) / "vos_tutorial"
        if not self.editable_mode:
            shutil.rmtree(package, ignore_errors=True)  # a module renamed since the last build must not travel
        super().run()
        if not self.editable_mode:
            for source, target in self._shipped().items():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *map(str, self._shipped().values())]

    def _shipped(self) -> dict[Path, Path]:
        package = Path(self.build_lib) / "vos_tutorial"
        return {
            file: package / folder / file.name
            for folder, pattern in SHIPPED.items()
            for file in sorted(Path("data", folder).glob(pattern))
        }


setup(cmdclass={"build_py": BuildWithData})
