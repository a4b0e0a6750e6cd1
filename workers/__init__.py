"""Longhaul, the staff: worker-engine takes jobs from RabbitMQ and does them.

Authors of handlers import from here:

    from workers import BlockingJob, Fatal, Job, Result, Retry, handles

The engine's parts: `engine` (all that runs, and the order of stopping), `consumer` (one queue), `execution` (one
delivery, from the claim on), `attempt` (a claimed task, to its end), `lease` (who may write), `guarding` (which message
carries it meanwhile), `executors` (on the loop, or in a child process), `housekeeping` (what the leader looks after),
`heartbeat` (what operators see of a worker).
"""

from workers.job import BlockingJob, Job
from workers.outcome import Fatal, Result, Retry
from workers.registry import handles

__all__ = ["BlockingJob", "Fatal", "Job", "Result", "Retry", "handles"]
