"""The work of `transform_dataset`: pass after pass over a dataset, chunk by chunk, at bounded memory.

A chunk is a stretch of one series that holds whole windows, so its result stands alone: nothing is carried from chunk
to chunk, and the checkpoint is no more than the place in the work. After a kill the passes already made are not made
again; the chunks of the last pass that were lost with the old workspace are.

This module is imported by every process that the engine starts: polars comes when the handler runs.
"""

# ruff: noqa: PLC0415  # what is heavy is imported when the handler runs, not when the engine looks for it

import time
from typing import TYPE_CHECKING

from app.actions.transform_dataset import TransformDataset
from workers.job import BlockingJob
from workers.outcome import Result
from workers.registry import handles

if TYPE_CHECKING:
    from workers.handlers.windows import Chunk

COMMIT_INTERVAL_SECONDS = 1.0


@handles(TransformDataset)
def transform_dataset(job: BlockingJob, params: TransformDataset) -> Result:
    """Resample each series into windows and aggregate; see the contract for the result's columns.

    Every pass reads the rows and aggregates them anew, and is compared with the pass before it. The result is equal
    however often the job was interrupted.

    Raises:
        DatasetUnreadable: The dataset cannot be read; says why.
        WindowsDiffer: Two passes of one attempt came to different windows.
    """
    from workers.handlers.datasets import dataset_of, open_dataset
    from workers.handlers.windows import Windows

    job.progress(0, "reading")
    opened = open_dataset(dataset_of(job.datasets, params.id), job.workspace)
    windows = Windows(opened, every=params.every, aggregate=params.aggregate, folder=job.workspace / "windows")
    chunks = windows.chunks
    total = opened.rows * params.repeat
    job.log(f"{opened.rows:,} rows in {len(chunks):,} parts")
    state = {"data": opened.fingerprint, "chunks": len(chunks)}  # of other data or chunks, a place means nothing
    first_pass, first_chunk = _place(job, state)
    committed_at = time.monotonic()
    for number in range(first_pass, params.repeat):
        done = number * opened.rows + sum(chunk.rows for chunk in chunks[:first_chunk])
        for place in range(first_chunk, len(chunks)):
            windows.aggregate(chunks[place])
            done += chunks[place].rows
            job.progress(done / total, _message(number, params.repeat, chunks[place]))
            if time.monotonic() - committed_at >= COMMIT_INTERVAL_SECONDS:
                job.commit({**state, "pass": number, "chunk": place + 1})
                committed_at = time.monotonic()
        first_chunk = 0
    job.progress(1, "writing")
    path = windows.write(job.workspace / "result.parquet")
    name = f"dataset-{params.id}-{params.every}-{params.aggregate}.parquet"
    return job.save(path, content_type="application/vnd.apache.parquet", filename=name)


def _place(job: BlockingJob, state: dict[str, object]) -> tuple[int, int]:
    """Return the pass and the chunk to go on with."""
    checkpoint = job.checkpoint if isinstance(job.checkpoint, dict) else {}
    if any(checkpoint.get(key) != value for key, value in state.items()):
        return 0, 0
    return checkpoint["pass"], checkpoint["chunk"]


def _message(number: int, repeat: int, chunk: "Chunk") -> str:
    series = f"aggregating {chunk.series}"
    return series if repeat == 1 else f"pass {number + 1:,} of {repeat:,}: {series}"
