"""The work of `generate_report`: read, profile, look for gaps and anomalies, draw, write.

This module is imported by every process that the engine starts, so it stays cheap: polars and matplotlib come when the
handler runs, and matplotlib (a second's import) only once there is something to draw.
"""

# ruff: noqa: PLC0415  # what is heavy is imported when the handler runs, not when the engine looks for it

from app.actions.generate_report import GenerateReport
from workers.job import BlockingJob
from workers.outcome import Result
from workers.registry import handles

# Where each stage ends, as shares of the whole: measured on the two demonstration datasets.
READ, ANALYSED, READY_TO_DRAW, DRAWN = 0.12, 0.28, 0.4, 0.92


@handles(GenerateReport)
def generate_report(job: BlockingJob, params: GenerateReport) -> Result:
    """Make the report of a dataset: a zip of report.html, charts, cleaned data and the lists of gaps and anomalies.

    The checkpoint holds the outcome of each step of the analysis, so an attempt after a kill reads and draws again but
    computes only what is missing; the report is the same to the byte. The dataset must fit into memory.

    Raises:
        DatasetUnreadable: The dataset cannot be read; says why.
    """
    job.progress(0, "reading")
    from workers.handlers.datasets import dataset_of, open_dataset

    dataset = dataset_of(job.datasets, params.id)
    opened = open_dataset(dataset, job.workspace, lambda share: job.progress(READ * share, "reading"))

    job.log(f"{opened.rows:,} rows of {dataset.title!r}")
    from workers.handlers.report.analysis import analyse
    from workers.handlers.report.steps import Steps

    steps = Steps(job, fingerprint=opened.fingerprint)
    analysis = analyse(
        opened, dataset, steps, lambda share, message: job.progress(READ + (ANALYSED - READ) * share, message)
    )

    job.log(f"found {len(analysis.gaps):,} gaps and {len(analysis.anomalies):,} anomalies")
    job.progress(ANALYSED, "getting ready to draw")
    from workers.handlers.report.bundle import write_bundle
    from workers.handlers.report.charts import draw_charts
    from workers.handlers.report.page import build_page

    charts = []
    for left, chart in draw_charts(analysis):
        charts.append(chart)
        share = len(charts) / (len(charts) + left)
        job.progress(READY_TO_DRAW + (DRAWN - READY_TO_DRAW) * share, f"drawn: {chart.title.lower()}")

    job.progress(DRAWN, "writing")
    path = write_bundle(
        job.workspace,
        page=build_page(analysis, charts, task_id=job.task_id),
        charts=charts,
        rows=analysis.rows,
        gaps=analysis.gaps,
        anomalies=analysis.anomalies,
    )
    result = job.save(path, content_type="application/zip", filename=f"report-{params.id}.zip")
    job.progress(1, "done")
    return result
