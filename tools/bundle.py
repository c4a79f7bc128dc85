# -*- test-case-name: tests.unit.test_tools_bundle -*-
"""
Python environments of the Debian packages: C{python3 -m tools.bundle FOLDER} fills C{FOLDER/<package>}, as
C{debian/rules} does. Called by the Python that the packages are for.

A bundle is a virtual environment in its final place, C{/usr/lib/qvd/<bundle>}, with the libraries that Debian lacks and
with those modules of ours that its programs can reach. Nothing is written there after the installation: the byte code
and Twisted's list of plugins are made here.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from configparser import ConfigParser
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
HOME = "usr/lib/qvd"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"lib/python{VERSION}/site-packages"
LONG_AGO = 946684800
"""Time stamp of plugins: Twisted's list of them must be younger, or it is made anew at each start."""
UNUSED_TWISTED = ("conch", "mail", "names", "pair", "trial", "words")
TWISTED_PLUGINS = ("__init__", "twisted_core", "twisted_reactors")
CHECKOUT_ONLY = {"qvd-demo", "qvd-sim"}
"""Programs that need the embedded PostgreSQL of a checkout."""


class Bundle:
    """What a bundle is made of.

    @ivar package: Debian package that it belongs to.
    @ivar ours: packages of ours in it, besides what they import; empty: all that no other bundle has to itself.
    @ivar needs: libraries of C{install_requires} in it; empty: all.
    @ivar daemons: plugins for C{twistd} in it.
    @ivar extras: of C{extras_require}, where they exist.
    """

    def __init__(
        self,
        package: str,
        ours: Sequence[str] = (),
        needs: Sequence[str] = (),
        daemons: Sequence[str] = (),
        extras: Sequence[str] = (),
    ) -> None:
        self.package = package
        self.ours = ours
        self.needs = needs
        self.daemons = daemons
        self.extras = extras


BUNDLES = {
    "node": Bundle("qvd-common", daemons=("qvd-node", "qvd-vma", "qvd-admin"), extras=("kvm",)),
    "vma": Bundle("qvd-vma", ["qvd.agent"], ["attrs", "Twisted", "zope.interface"], ["qvd-vma"]),
    "client": Bundle(
        "qvd-client", ["qvd.client"], ["attrs", "pyOpenSSL", "service_identity", "Twisted[tls]", "zope.interface"]
    ),
}
NOT_ON_NODES = {"qvd.client", "qvd.demo"}
"""Left out of the bundle that has all, unless they are imported."""


def program_place(script: str) -> tuple[str, str]:
    """The Debian package of a console script, and the bundle that runs it."""
    match script:
        case "qvd-client":
            return "qvd-client", "client"
        case "qvd" | "qvd-db":
            return "qvd-admin", "node"
        case "qvd-doctor":
            # Of nodes and administrations alike.
            return "qvd-common", "node"
        case _:
            return "qvd-node", "node"


def read_setup(project: Path = PROJECT) -> ConfigParser:
    setup = ConfigParser(interpolation=None)
    setup.read_string((project / "setup.cfg").read_text())
    return setup


def words(setup: ConfigParser, section: str, key: str) -> list[str]:
    """Lines of a list in C{setup.cfg}; none where there is no such list."""
    return [line.strip() for line in setup.get(section, key, fallback="").splitlines() if line.strip()]


def file_of(module: str, project: Path = PROJECT) -> Path | None:
    """Where a module of ours is; L{None}: it is none."""
    path = project.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imports(file: Path) -> Iterable[str]:
    """All names that a module may import, wherever in it; some are of things inside modules."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)


def closure(roots: Iterable[str], project: Path = PROJECT) -> Mapping[str, Path]:
    """Modules of ours that C{roots} import, directly or not, and themselves, by name."""
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        file = None if module in found or module.split(".")[0] != "qvd" else file_of(module, project)
        if file is not None:
            found[module] = file
            waiting += [module.rpartition(".")[0], *imports(file)]
    return found


def modules_in(package: str, project: Path = PROJECT) -> list[str]:
    """A package and its modules, without the packages in it."""
    folder = project.joinpath(*package.split("."))
    return [package, *(f"{package}.{file.stem}" for file in sorted(folder.glob("*.py")) if file.stem != "__init__")]


def modules_of(bundle: Bundle, setup: ConfigParser, project: Path = PROJECT) -> Mapping[str, Path]:
    """Our modules in a bundle. Whole packages are roots: some of their files are run, not imported."""
    packages = bundle.ours or [
        name for name in words(setup, "options", "packages") if name.startswith("qvd") and name not in NOT_ON_NODES
    ]
    return closure([module for package in packages for module in modules_in(package, project)], project)


def plain(requirement: str) -> str:
    """Name of a library, in one spelling."""
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def requirements(bundle: Bundle, setup: ConfigParser) -> list[str]:
    """What pip is asked for: C{setup.cfg} says which versions.

    @raise KeyError: a library is not in C{setup.cfg}.
    """
    known = words(setup, "options", "install_requires")
    extra = [line for name in bundle.extras for line in words(setup, "options.extras_require", name)]
    if not bundle.needs:
        return known + extra
    versions = {plain(line): re.sub(r"^[\w.-]+(\[.*?\])?", "", line) for line in known}
    return [need + versions[plain(need)] for need in bundle.needs] + extra


def run(*command: str | Path, quiet: bool = False) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


def make_skeleton(place: Path) -> Path:
    """An environment without anything in it; the folder for its libraries."""
    library = place / LIBRARY
    library.mkdir(parents=True)
    (place / "bin").mkdir()
    (place / "bin/python").symlink_to(f"/usr/bin/python{VERSION}")
    (place / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {VERSION}\n")
    return library


def copy_ours(bundle: Bundle, setup: ConfigParser, library: Path) -> None:
    """Our modules, the other files beside them, and the plugins."""
    modules = modules_of(bundle, setup)
    data = dict(setup.items("options.package_data"))
    extra = [
        file
        for package, patterns in data.items()
        if package in modules
        for pattern in patterns.replace(",", " ").split()
        for file in PROJECT.joinpath(*package.split(".")).glob(pattern)
    ]
    plugins = [PROJECT / f"twisted/plugins/{name.replace('-', '_')}_plugin.py" for name in bundle.daemons]
    for file in (*modules.values(), *extra, *plugins):
        target = library / file.relative_to(PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def prune(library: Path) -> None:
    """Take out what nothing here uses, which is half: the libraries' tests, Twisted's other servers, their plugins."""
    for folder in sorted(library.rglob("test*"), reverse=True):
        if folder.name in ("test", "tests") and (folder / "__init__.py").is_file():
            shutil.rmtree(folder)
    for name in UNUSED_TWISTED:
        shutil.rmtree(library / "twisted" / name)
    for plugin in library.glob("twisted/plugins/*.py"):
        if plugin.stem not in TWISTED_PLUGINS:
            plugin.unlink()


def compile_all(library: Path, root: Path) -> None:
    """Byte code that is never checked, so that nothing is ever written beside it."""
    arguments = ["-q", "-j0", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/", str(library)]
    run(sys.executable, "-m", "compileall", *arguments)


def list_plugins(place: Path) -> None:
    """Twisted's list of plugins, and the age that keeps it valid."""
    for file in (place / LIBRARY / "twisted/plugins").glob("*.py"):
        os.utime(file, (LONG_AGO, LONG_AGO))
    program = "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"
    run(place / "bin/python", "-I", "-c", program)


def write_program(path: Path, bundle: str, module: str, function: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/{HOME}/{bundle}/bin/python -I\nimport sys\n\nfrom {module} import {function}\n\n")
    with path.open("a") as file:
        file.write(f"sys.exit({function}())\n")
    path.chmod(0o755)


def unpack_pip(place: Path) -> Path:
    """Debian's pip, which it keeps for new environments; this is faster than making one."""
    [wheel] = Path("/usr/share/python-wheels").glob("pip-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place / "pip"


def make(name: str, setup: ConfigParser, pip: Path, wheels: Path, root: Path) -> None:
    """One bundle, below the root of its package."""
    bundle, place = BUNDLES[name], root / HOME / name
    library = make_skeleton(place)
    options = ["--isolated", "install", "-q", "--no-index", "--no-compile"]
    run(sys.executable, pip, *options, "--find-links", wheels, "--target", library, *requirements(bundle, setup))
    shutil.rmtree(library / "bin", ignore_errors=True)
    prune(library)
    copy_ours(bundle, setup, library)
    compile_all(library, root)
    if bundle.daemons:
        list_plugins(place)
        write_program(place / "bin/twistd", name, "twisted.scripts.twistd", "run")
    for daemon in bundle.daemons:
        run(place / "bin/python", "-I", "-m", "twisted", daemon, "--help", quiet=True)


def make_all(target: Path, work: Path) -> None:
    """All bundles and programs, below C{target/<package>}."""
    setup, wheels, pip = read_setup(), work / "wheels", unpack_pip(work / "tool")
    # Looked up once, so that all bundles have the same versions.
    run(sys.executable, pip, "wheel", "-q", "-w", wheels, *requirements(BUNDLES["node"], setup))
    for name, bundle in BUNDLES.items():
        make(name, setup, pip, wheels, target / bundle.package)
    for line in words(setup, "options.entry_points", "console_scripts"):
        script, module, function = re.split(r"\s*[=:]\s*", line)
        if script not in CHECKOUT_ONLY:
            package, name = program_place(script)
            program = target / package / "usr/bin" / script
            write_program(program, name, module, function)
            # A library that is missing is to be missed here.
            run(target / BUNDLES[name].package / HOME / name / "bin/python", "-I", program, "--help", quiet=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="qvd-bundle-") as folder:
        make_all(Path(sys.argv[1]).absolute(), Path(folder))
