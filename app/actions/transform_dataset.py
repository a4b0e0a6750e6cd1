"""The contract of `transform_dataset`: resample, aggregate and convert a dataset, for seconds or for hours."""

from typing import Annotated, Literal

from pydantic import Field

from app.domain.action import Action, DatasetId


class TransformDataset(Action, name="transform_dataset", queue="transform"):
    """Resample a dataset's series and aggregate their numeric columns. The result is a Parquet file."""

    id: Annotated[int, DatasetId()]
    every: Literal["1h", "6h", "1d", "7d"] = Field(default="1d", description="The width of a window.")
    aggregate: Literal["mean", "min", "max", "sum"] = Field(default="mean", description="Of each numeric column.")
    repeat: int = Field(default=1, ge=1, le=100_000, description="How many times to process the dataset.")
