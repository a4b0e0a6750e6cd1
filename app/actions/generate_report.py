"""The contract of `generate_report`: profile a dataset and make a report of it that a person wants to read."""

from typing import Annotated

from app.domain.action import Action, DatasetId


class GenerateReport(Action, name="generate_report", queue="report_gen"):
    """Profile a dataset: gaps, anomalies, charts. The result is a zip with an HTML report and a Parquet file."""

    id: Annotated[int, DatasetId()]
