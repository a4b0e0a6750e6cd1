"""Runs an `async def` handler on the engine's own loop. Cancelling the call cancels the handler."""

import asyncio
from typing import cast

from app.domain.action import Action
from workers.job import Job, JobContext, Reporter
from workers.outcome import Result, failure, result_of
from workers.registry import AsyncHandler, Handler


async def run_inline(handler: Handler, context: JobContext, params: Action, reporter: Reporter) -> Result:
    """Return what the handler made.

    Raises:
        AttemptFailed: The handler raised; LeaseLost and our own cancellation pass through.
    """
    function = cast("AsyncHandler", handler.function)
    try:
        return result_of(await function(Job(context, reporter), params))
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise failure(error) from error  # nobody cancelled it: it awaited something that was
    except (Exception, SystemExit) as error:  # a handler may raise anything, and must not end the engine
        raise failure(error) from error
