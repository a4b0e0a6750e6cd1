"""Runs an `async def` handler on the engine's own loop. Cancelling the call cancels the handler."""

from typing import cast

from app.domain.action import Action
from workers.job import Job, JobContext, Reporter
from workers.outcome import Result, failure, result_of
from workers.registry import AsyncHandler, Handler


async def run_inline(handler: Handler, context: JobContext, params: Action, reporter: Reporter) -> Result:
    """Return what the handler made.

    Raises:
        AttemptFailed: The handler raised; LeaseLost and cancellation pass through.
    """
    function = cast("AsyncHandler", handler.function)
    try:
        return result_of(await function(Job(context, reporter), params))
    except Exception as error:  # a handler may raise anything
        raise failure(error) from error
