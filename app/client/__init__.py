"""The Python client of our users: everything that the HTTP contract offers, as typed async calls.

    async with LonghaulClient("https://longhaul.example", token) as client:
        task = await client.submit("generate_report", {"id": 1024}, idempotency_key="report-1024-monday")
        async with aclosing(client.watch(task)) as documents:
            async for document in documents:
                print(document.progress, document.message)
        await client.download(task.task_id, Path("report.zip"))

It speaks HTTP like any stranger, knows nothing of the service but its contract, and imports only `app.domain`.
"""

from app.client.client import LonghaulClient
from app.client.downloading import OnBytes
from app.client.errors import ClientError, ResultCorrupt, ServiceProblem, UnexpectedAnswer, Unreachable
from app.client.models import AcceptedTask, Page
from app.client.retrying import OnRetry

__all__ = [
    "AcceptedTask",
    "ClientError",
    "LonghaulClient",
    "OnBytes",
    "OnRetry",
    "Page",
    "ResultCorrupt",
    "ServiceProblem",
    "UnexpectedAnswer",
    "Unreachable",
]
