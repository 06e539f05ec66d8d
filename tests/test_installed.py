"""The package away from its checkout: the wheel has all it needs, and runs with the library's own packages only."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from vos_tutorial import __version__, places
from vos_tutorial.models import METHODS

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = [*sorted((ROOT / "data/weights").glob("*.safetensors")), *sorted((ROOT / "data/results").glob("*.json"))]
LIBRARY = ["torch", "torchvision", "numpy", "scipy", "pillow", "scikit-image", "safetensors", "tqdm", "platformdirs"]


def pip(*words: str | Path, cwd: Path | None = None) -> None:
    """pip without a network: everything that it needs is here already."""
    options = ["--disable-pip-version-check", "--no-index", "-q"]
    command = [sys.executable, "-m", "pip", words[0], *options, *words[1:]]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def tracked(folder: Path) -> Path:
    """A copy of what git knows of the checkout: builds leave nothing behind in it, and stray files stay out."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
    )
    if listing.returncode:
        pytest.skip("this is no git checkout, so there is no list of the files to build from")
    for name in filter(None, listing.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("notebooks/", "tests/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = re.match(r"\d+", importlib.metadata.version("setuptools"))
    if found is None or int(found[0]) < 77:
        pytest.skip("setuptools is older than 77, with which this package cannot be built; run make setup")
    return tracked(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    stray = source / "build/lib/vos_tutorial/of_an_older_build.py"  # a module that was renamed since
    stray.parent.mkdir(parents=True)
    stray.touch()
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", source / "dist", source)
    (built,) = source.glob("dist/*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was installed into, away from any checkout."""
    folder = tmp_path_factory.mktemp("elsewhere") / "site"
    pip("install", "--no-deps", "--target", folder, wheel)
    return folder


# --- what travels -------------------------------------------------------------------------------------------------


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_modules_pages_weights_and_results(wheel: Path) -> None:
    names = names_in(wheel)
    package = ROOT / "vos_tutorial"
    wanted = {f"vos_tutorial/{f.relative_to(package)}" for f in package.rglob("*.*") if f.suffix != ".pyc"}
    assert {name for name in wanted if name.endswith((".js", ".css", ".html", "py.typed"))}
    assert sorted(wanted - names) == []
    assert sorted(f"vos_tutorial/{file.parent.name}/{file.name}" for file in SHIPPED) == sorted(
        name for name in names if name.startswith(("vos_tutorial/weights/", "vos_tutorial/results/"))
    )
    assert "vos_tutorial/of_an_older_build.py" not in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"vos_tutorial", f"vos_tutorial-{__version__}.dist-info"}


def test_a_wheel_from_the_source_archive_is_the_same(source: Path, wheel: Path, tmp_path: Path) -> None:
    code = f"import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data") if hasattr(tarfile, "data_filter") else file.extractall(tmp_path)
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path / "again", unpacked)
    (again,) = tmp_path.glob("again/*.whl")
    assert names_in(again) == names_in(wheel)


def test_the_library_asks_for_nine_packages(installed: Path) -> None:
    (about,) = importlib.metadata.distributions(name="vos-tutorial", path=[str(installed)])
    lines = [Requirement(line) for line in about.requires or []]
    assert [r.name for r in lines if r.marker is None] == LIBRARY
    assert set(about.metadata.get_all("Provides-Extra") or []) == {
        "course",
        "video",
        "flux",
        "site",
        "train",
        "grading",
        "dev",
    }


# --- how it runs --------------------------------------------------------------------------------------------------


def closure(names: list[str]) -> set[str]:
    """Distributions that these need, and those that they need, on this machine."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another system, such as Windows' own
            continue
        found.add(name)
        requirements = [Requirement(line) for line in lines]
        waiting += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


@functools.cache
def strangers() -> set[str]:
    """Top-level modules of this environment that no package of the library brings."""
    brought = closure(LIBRARY) | {"vos-tutorial"}
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & brought
    }


HIDING = """
import importlib.metadata, re, sys

class Hiding:  # around each finder of modules and distributions: what the library does not need is not there
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in MODULES else self.finder.find_spec(name, path, target)

    def find_distributions(self, context=importlib.metadata.DistributionFinder.Context()):
        for found in getattr(self.finder, "find_distributions", lambda context: [])(context):
            if re.sub("[-_.]+", "-", found.metadata["Name"]).lower() in DISTRIBUTIONS:
                yield found

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


def run(installed: Path, tmp_path: Path, code: str, course: bool = False) -> str:
    """Run code against the installed package, in a folder of its own; what it printed.

    Unless the ``course`` is allowed, modules and distributions that no package of the library brings are hidden.
    """
    hiding = (
        f"MODULES = {sorted(strangers())!r}\nDISTRIBUTIONS = {sorted(closure(LIBRARY) | {'vos-tutorial'})!r}{HIDING}"
    )
    prelude = f"""
import sys
sys.path.insert(0, {str(installed)!r})
import vos_tutorial
assert vos_tutorial.__file__.startswith({str(installed)!r}), vos_tutorial.__file__
"""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", ("" if course else hiding) + prelude + code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_courses_packages_are_strangers_to_the_library() -> None:
    found = strangers()
    assert {"matplotlib", "anywidget", "ipywidgets", "IPython", "jupyterlab", "jupytext", "nbval", "psutil"} <= found
    assert not {"torch", "torchvision", "numpy", "scipy", "PIL", "skimage", "safetensors", "tqdm"} & found


FOLLOW = """
import importlib, pkgutil
from vos_tutorial import places, propagate, segmenter
from vos_tutorial.data.worlds.sprites import make_clip
from vos_tutorial.metrics import region_similarity
from vos_tutorial.models import METHODS
assert places.CHECKOUT is None
clip = make_clip(3, size=64, length=4)
for file in sorted(places.WEIGHTS.iterdir()):
    name, _, variant = file.stem.partition("-")
    if name not in METHODS:  # the features of label propagation
        continue
    ids = propagate(segmenter(name, weights=file if variant else "shipped"), clip.frames, clip.first_mask)
    score = region_similarity(clip.masks[1:] == clip.objects[0], ids[1:] == clip.objects[0]).mean()
    print(file.name, list(ids.shape), round(100 * float(score)))
del clip, ids, propagate, segmenter, make_clip
exec(README)
assert ids.shape == clip.masks.shape
for module in pkgutil.walk_packages(vos_tutorial.__path__, "vos_tutorial.", onerror=lambda name: None):
    if not module.name.startswith(("vos_tutorial.course", "vos_tutorial.__main__")):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_every_shipped_network_follows_a_clip_without_the_course(installed: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    *_, example = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    code = f"README = {example!r}\n{FOLLOW}"
    lines = run(installed, tmp_path, code).splitlines()
    files = [f.name for f in SHIPPED if f.suffix == ".safetensors" and f.stem.split("-")[0] in METHODS]
    scores, modules = lines[: len(files)], lines[len(files) :]
    assert [line.split()[0] for line in scores] == files
    assert {name.split(".")[0].split("-")[0] for name in files} == set(METHODS)
    for line in scores:
        assert "[4, 64, 64]" in line
        if "-" not in line:  # an ablation may follow nothing
            assert int(line.split()[-1]) > 60, line
    assert {"vos_tutorial.doctor", "vos_tutorial.evaluation", "vos_tutorial.training.command"} <= set(modules)


def test_the_course_without_its_packages_is_a_sentence(installed: Path, tmp_path: Path) -> None:
    code = """
from vos_tutorial import TutorialError
for name in ("figures", "widgets", "lessons"):
    try:
        __import__("vos_tutorial.course." + name)
    except TutorialError as error:
        print(error)
"""
    lines = run(installed, tmp_path, code).splitlines()
    assert len(lines) == 3
    for line in lines:
        assert "is not installed in" in line
        assert line.endswith(f'run: {sys.executable} -m pip install "vos-tutorial[course]"')


def test_the_doctor_knows_that_it_is_installed(installed: Path, tmp_path: Path) -> None:
    code = 'from vos_tutorial.__main__ import main; assert main(["doctor"]) == 0; main(["download", "--help"])'
    page, _, usage = run(installed, tmp_path, f"try:\n    {code}\nexcept SystemExit:\n    pass").partition("usage:")
    assert str(installed) in page
    assert f"{tmp_path}/data/vos-tutorial, writable" in page
    assert re.search(rf"trained weights +{len(list(places.WEIGHTS.glob('*.safetensors')))} files", page)
    assert f'run: {sys.executable} -m pip install "vos-tutorial[course]"' in page
    for word in ("git", "Chromium", "constraints.txt", "make", ".venv remove"):
        assert word not in page, word
    assert "Everything that the library needs is here." in page
    assert f"{tmp_path}/data/vos-tutorial" in "".join(usage.split()), "downloads go to the user's folder"


def test_widgets_bring_their_pages(installed: Path, tmp_path: Path) -> None:
    code = """
from vos_tutorial.course.widgets import MaskPlayer
from vos_tutorial.data.worlds.sprites import make_clip
print(MaskPlayer(make_clip(1, size=48, length=3)).to_html("player.html"))
"""
    assert run(installed, tmp_path, code, course=True).strip() == "player.html"
    page = (tmp_path / "player.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert "/*HOST*/" not in page


# --- in a checkout ------------------------------------------------------------------------------------------------


def test_a_checkout_uses_its_own_files() -> None:
    assert places.CHECKOUT == ROOT
    assert places.WEIGHTS == ROOT / "data/weights"
    assert places.RESULTS == ROOT / "data/results"
    assert places.downloads() == ROOT / "data"


@pytest.mark.parametrize("text", [None, '[project]\nname = "of-somebody-else"\n', "\xff"])
def test_a_folder_that_is_no_checkout(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "pyproject.toml").write_bytes(text.encode("latin-1"))
    assert places.find_checkout(tmp_path / "vos_tutorial") is None
