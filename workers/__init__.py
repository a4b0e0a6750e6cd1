"""Longhaul, the staff: worker-engine takes jobs from RabbitMQ and does them.

Authors of handlers import from here:

    from workers import BlockingJob, Fatal, Job, Result, Retry, handles

The engine's parts: `engine` (all that runs, and the order of stopping), `consumer` (one queue), `execution` (one
delivery, from claim to acknowledgement), `lease` (who may write), `executors` (on the loop, or in a child process).
"""

from workers.job import BlockingJob, Job
from workers.outcome import Fatal, Result, Retry
from workers.registry import handles

__all__ = ["BlockingJob", "Fatal", "Job", "Result", "Retry", "handles"]
