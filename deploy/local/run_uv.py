"""Run the virtual environment's uv with what pip was told: `python3 deploy/local/run_uv.py pip sync requirements.lock`.

uv does not read pip's configuration, and on a machine that cannot reach PyPI that is where the way to packages stands:
an index, a certificate, a time limit. A `UV_*` variable that is set already wins. Standard library only, since this
runs before anything is installed.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

VENV = Path(__file__).parents[2] / ".venv"
RANKS = (":env:", "install", "global")  # as pip ranks them: PIP_* variables first


def pip_settings(listing: str) -> dict[str, str]:
    """Read `pip config list`, lines such as `global.index-url='https://…'`; several words or lines become one line."""
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        key, equals, quoted = line.partition("=")
        section, dot, name = key.rpartition(".")
        if equals and dot and section in RANKS:
            value = " ".join(str(ast.literal_eval(quoted)).split())
            found[name] = min(found.get(name, (len(RANKS), "")), (RANKS.index(section), value))
    return {name: value for name, (_, value) in found.items()}


def as_uv(pip: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables by which uv does as pip was told."""
    variables = {
        "UV_DEFAULT_INDEX": pip.get("index-url"),
        "UV_INDEX": pip.get("extra-index-url"),
        # As pip does, all indexes are asked alike: what may be installed is decided by the lock's hashes.
        "UV_INDEX_STRATEGY": "unsafe-best-match" if "extra-index-url" in pip else None,
        "UV_FIND_LINKS": ",".join(place for place in pip.get("find-links", "").split() if _may_be_there(place)),
        "UV_NO_INDEX": "1" if pip.get("no-index", "0") not in ("0", "false", "no", "off") else None,
        "UV_INSECURE_HOST": pip.get("trusted-host"),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout"),
        "SSL_CERT_FILE": pip.get("cert"),
    }
    return {name: value for name, value in variables.items() if value}


def _may_be_there(place: str) -> bool:
    """A missing directory is a warning of pip's, and the end for uv."""
    return "://" in place or Path(place).exists()


def main() -> None:
    """Become uv."""
    listing = subprocess.run(
        [VENV / "bin" / "python", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    environment = {**as_uv(pip_settings(listing)), **os.environ, "VIRTUAL_ENV": str(VENV)}
    uv = str(VENV / "bin" / "uv")
    os.execve(uv, [uv, *sys.argv[1:]], environment)


if __name__ == "__main__":
    main()
