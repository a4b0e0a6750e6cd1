"""The contract of `transform_dataset`: resample and aggregate a dataset, for seconds or for hours."""

from typing import Annotated, Literal

from pydantic import Field

from app.domain.action import Action, DatasetId


class TransformDataset(Action, name="transform_dataset", queue="transform"):
    """Resample a dataset's series and aggregate their numeric columns. The result is a Parquet file.

    One row for each series and window that has rows: the series, `window_start` (UTC), `rows`, and the aggregate of
    each numeric column, null where no row of the window has a value.
    """

    id: Annotated[int, DatasetId()]
    every: Literal["1h", "6h", "1d", "7d"] = Field(
        default="1d", description="The width of a window. Windows begin on the hour, at midnight or on Monday, UTC."
    )
    aggregate: Literal["mean", "min", "max", "sum"] = Field(default="mean", description="Of each numeric column.")
    repeat: int = Field(
        default=1,
        ge=1,
        le=100_000,
        description="How many passes to make over the dataset. Each does all the work again, and must come to the same "
        "windows: the result does not grow, the time does, so a long job can be had of any dataset.",
    )
