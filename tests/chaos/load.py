"""Load: callers who order work and do with it what callers do, and write down every answer that they got.

What a caller was told is the evidence: when it asked, when it was answered, with which status, and the document if
there was one. A document is written down when it is another than this reader saw last.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import websockets
from websockets.asyncio.client import connect

from tests.chaos.journal import Journal, now
from tests.chaos.plans import Plan, ballast, calm, plan
from tests.chaos.stage import APIS, Stage

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
ANSWER_SECONDS: Final = 12.0
PATIENCE_SECONDS: Final = 90.0
"""How long a caller waits for an end; what has none by then is the checker's matter."""
LOOK_SECONDS: Final = 1.5
BALLAST: Final = 28
"""Tasks that are to be in flight; long jobs are added when there are fewer."""
MOST_CALLERS: Final = 400
"""Nobody new comes while so many ask, and ask again: they and the proxies share a process, which must not be late."""
KEPT: Final = ("task_id", "status", "seq", "attempt", "progress", "finished_at", "cancel_requested", "labels", "result")


class Load:
    """All callers."""

    def __init__(self, stage: Stage, journal: Journal, *, seed: int, rate: float) -> None:
        """Name them.

        Args:
            stage: Whom they ask.
            journal: Where they write.
            seed: Of all plans.
            rate: Submissions a second, without what is added when too little is in flight.
        """
        self._stage = stage
        self._journal = journal
        self._seed = seed
        self._rate = rate
        self._chance = random.Random(f"load {seed}")
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._stories: set[asyncio.Task[None]] = set()
        self._ended: dict[str, asyncio.Event] = {}
        self._last_seen: dict[tuple[str, str], int] = {}
        self._outcomes: dict[str, str] = {}
        self._ended_at: dict[str, str] = {}
        self._calm: dict[str, Plan] = {}
        self.promised: dict[str, float] = {}
        """Tasks whose end nobody has seen yet, and since when."""
        self.accepted = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open the callers' connections."""
        async with contextlib.AsyncExitStack() as stack:
            for subject in ("alice", "bob", "mallory"):
                headers = {"Authorization": f"Bearer {self._stage.service.token(subject, ttl_seconds=86_400)}"}
                limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
                client = httpx.AsyncClient(headers=headers, timeout=ANSWER_SECONDS, limits=limits)
                self._clients[subject] = await stack.enter_async_context(client)
            lookers = [asyncio.create_task(self._look(subject), name=f"look {subject}") for subject in ("alice", "bob")]
            try:
                yield
            finally:
                for task in [*lookers, *self._stories]:
                    task.cancel()
                await asyncio.gather(*lookers, *self._stories, return_exceptions=True)

    async def submit_until(self, stopping: asyncio.Event) -> None:
        """Submit at the rate, and keep enough in flight."""
        number = 0
        while not stopping.is_set():
            number += 1
            if len(self._stories) < MOST_CALLERS:
                self._begin(plan(self._seed, number))
            if len(self.promised) < BALLAST:
                self._begin(ballast(self._seed, number))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._chance.expovariate(self._rate))

    def submit_calm(self, count: int, seconds: float) -> None:
        """Submit jobs that will still be at work when all else has ended."""
        for number in range(count):
            self._begin(calm(self._seed, number, seconds))

    async def cancel_calm(self) -> None:
        """Cancel those of them that are still at work."""
        async with asyncio.TaskGroup() as cancelling:
            for task_id, plan in self._calm.items():
                if task_id in self.promised:
                    cancelling.create_task(self._cancel(plan, task_id, 0))

    async def finish(self, within: float) -> None:
        """Wait for the callers to be content, or to have waited long enough."""
        if self._stories:
            await asyncio.wait(self._stories, timeout=within)

    @property
    def in_flight(self) -> int:
        """How many promised tasks nobody has seen the end of."""
        return len(self.promised)

    def _begin(self, plan: Plan) -> None:
        story = asyncio.create_task(self._story(plan), name=plan.label)
        self._stories.add(story)
        story.add_done_callback(self._done)

    def _done(self, story: asyncio.Task[None]) -> None:
        self._stories.discard(story)
        if not story.cancelled():
            story.result()  # a bug of ours ends the run: asyncio tells of it

    # --- what one caller does

    async def _story(self, plan: Plan) -> None:
        async with asyncio.TaskGroup() as side:
            for after in plan.repeats:
                side.create_task(self._repeat(plan, after))
            task_id = await self._submit(plan)
            if task_id is None:
                return
            if plan.cancels_after is not None:
                side.create_task(self._cancel(plan, task_id, plan.cancels_after))
            if plan.watches == "poll":
                side.create_task(self._poll(plan, task_id))
            if plan.watches == "socket":
                side.create_task(self._follow(plan, task_id))
            if self._chance.random() < 0.02:
                side.create_task(self._status("mallory", f"mallory {plan.label}", task_id))
            status = await self._end_of(task_id)
            if plan.retries and status in ("FAILED", "CANCELLED"):
                await asyncio.sleep(self._chance.uniform(0, 1))
                began = now()
                if await self._change(plan, "POST", task_id, "retry") == httpx.codes.ACCEPTED:
                    self._promise(task_id, began)
                    status = await self._end_of(task_id)
            if plan.deletes and status:
                await asyncio.sleep(self._chance.uniform(0, 2))
                await self._delete(plan, task_id)

    async def _submit(self, plan: Plan) -> str | None:
        """Ask, and ask again if a keyed request was not answered, or refused; the task's id once it is promised."""
        for attempt in range(40):
            answer = await self._order(plan, "submit")
            if answer.code == httpx.codes.ACCEPTED:
                return str(answer.body["task_id"])
            if answer.code in (409, 410, 422, 404):
                return None
            refused = answer.code == httpx.codes.SERVICE_UNAVAILABLE
            if plan.key is None or (refused and plan.gives_up and attempt == 0):
                return None
            await asyncio.sleep(self._chance.uniform(0.3, 1.5))
        return None

    async def _repeat(self, plan: Plan, after: float) -> None:
        await asyncio.sleep(after)
        await self._order(plan, "repeat")

    async def _cancel(self, plan: Plan, task_id: str, after: float) -> None:
        await asyncio.sleep(after)
        await self._change(plan, "POST", task_id, "cancel")

    async def _order(self, plan: Plan, op: str) -> "Answer":
        headers = {"Idempotency-Key": plan.key} if plan.key else {}
        facts = {"label": plan.label, "key": plan.key, "order": plan.order}
        began = now()
        answer = await self._ask(
            op, plan.subject, "POST", "/v1/workload", json=plan.order, headers=headers, facts=facts
        )
        if answer.code == httpx.codes.ACCEPTED:
            self.accepted += op == "submit"
            # Somebody else may have seen its end before this answer was read.
            if answer.body["status"] not in ENDED and answer.body["task_id"] not in self._ended_at:
                self._promise(answer.body["task_id"], began)
            if plan.is_calm:
                self._calm[answer.body["task_id"]] = plan
            self._saw(answer.body)
        return answer

    async def _change(self, plan: Plan, method: str, task_id: str, what: str) -> int | None:
        answer = await self._ask(
            what, plan.subject, method, f"/v1/workload/{task_id}/{what}", facts={"task_id": task_id}
        )
        if answer.code == httpx.codes.ACCEPTED:
            self._saw(answer.body)
        return answer.code

    async def _delete(self, plan: Plan, task_id: str) -> None:
        for _ in range(20):
            answer = await self._ask(
                "delete", plan.subject, "DELETE", f"/v1/workload/{task_id}", facts={"task_id": task_id}
            )
            if answer.code in (204, 404, 409):
                break
            await asyncio.sleep(1)
        for reader in [reader for reader, seen in self._last_seen if seen == task_id]:
            del self._last_seen[reader, task_id]
        if answer.code == httpx.codes.NO_CONTENT:
            if plan.repeats_after_delete:
                await self._repeat(plan, self._chance.uniform(0, 5))
            await asyncio.sleep(self._chance.uniform(0, 8))
            await self._status(plan.subject, f"after {plan.label}", task_id)

    async def _poll(self, plan: Plan, task_id: str) -> None:
        """Poll until the end, however often the task is run again; then read the result."""
        async with _patience():
            while True:
                document = await self._status(plan.subject, f"poll {plan.label}", task_id)
                if document and document["status"] in ENDED:
                    break
                await asyncio.sleep(self._chance.uniform(0.2, 0.9))
            if document.get("result"):
                await self._read_result(plan, task_id)

    async def _read_result(self, plan: Plan, task_id: str) -> None:
        facts = {"task_id": task_id}
        answer = await self._ask("result", plan.subject, "GET", f"/v1/workload/{task_id}/result", facts=facts)
        if answer.code == httpx.codes.OK:
            self._journal.write(op="content", subject=plan.subject, task_id=task_id, began=now(), text=answer.text)

    async def _status(self, subject: str, reader: str, task_id: str) -> dict[str, Any] | None:
        answer = await self._ask(
            "status",
            subject,
            "GET",
            f"/v1/workload/status/{task_id}",
            facts={"task_id": task_id, "reader": reader},
        )
        if answer.code == httpx.codes.OK:
            self._saw(answer.body)
            return answer.body
        return None

    async def _follow(self, plan: Plan, task_id: str) -> None:
        """Watch by WebSocket, connecting again until the task has ended."""
        token = self._stage.service.token(plan.subject)
        reader = f"socket {plan.label}"
        async with _patience():
            while True:
                url = f"ws{self._api().removeprefix('http')}/v1/workload/{task_id}/ws"
                with contextlib.suppress(OSError, websockets.WebSocketException, TimeoutError):
                    headers = {"Authorization": f"Bearer {token}"}
                    async with connect(url, additional_headers=headers, open_timeout=5, proxy=None) as socket:
                        async for message in socket:
                            said = json.loads(message)
                            if said["type"] != "status":
                                continue
                            document = said["task"]
                            self._write_document("watch", plan.subject, reader, document, now(), now())
                            self._saw(document)
                            if document["status"] in ENDED:
                                return
                await asyncio.sleep(self._chance.uniform(0.2, 1))

    # --- the two who look at everything

    async def _look(self, subject: str) -> None:
        while True:
            await self.read_list(subject, pages=1)
            await asyncio.sleep(LOOK_SECONDS)

    async def read_list(self, subject: str, *, pages: int, op: str = "list") -> bool:
        """Read the list's newest pages; whether they all came."""
        path = "/v1/workload?limit=200"
        for _ in range(pages):
            began = now()
            answer = await self._ask(op, subject, "GET", path, facts={"quiet": True})
            if answer.code != httpx.codes.OK:
                return False
            for document in answer.body["items"]:
                self._write_document(op, subject, f"{op} {subject}", document, began, now())
                self._saw(document)
            if "next_cursor" not in answer.body:
                break
            path = f"/v1/workload?limit=200&cursor={answer.body['next_cursor']}"
        return True

    # --- asking, and writing down

    def _api(self) -> str:
        return self._stage.members[self._chance.choice(APIS)].base_url

    async def _ask(
        self, op: str, subject: str, method: str, path: str, *, facts: dict[str, Any], **request: Any
    ) -> "Answer":
        began = now()
        answer = Answer(None)
        with contextlib.suppress(httpx.TransportError):
            answer = Answer(await self._clients[subject].request(method, self._api() + path, **request))
        document = answer.body if "seq" in answer.body else None
        if facts.pop("quiet", False):
            return answer
        if op == "status" and document and not self._is_new(facts["reader"], document):
            return answer
        kept = {"document": _kept(document)} if document else {}
        if op in ("submit", "repeat") and document:
            kept["task_id"] = document["task_id"]
        self._journal.write(op=op, subject=subject, began=began, ended=now(), code=answer.code, **facts, **kept)
        return answer

    def _write_document(
        self, op: str, subject: str, reader: str, document: dict[str, Any], began: float, ended: float
    ) -> None:
        if self._is_new(reader, document):
            facts = {"op": op, "subject": subject, "reader": reader, "task_id": document["task_id"]}
            self._journal.write(**facts, began=began, ended=ended, code=200, document=_kept(document))

    def _is_new(self, reader: str, document: dict[str, Any]) -> bool:
        key = (reader, document["task_id"])
        if self._last_seen.get(key) == document["seq"]:
            return False
        self._last_seen[key] = document["seq"]
        return True

    def _promise(self, task_id: str, began: float) -> None:
        self.promised[task_id] = began
        self._ended[task_id] = asyncio.Event()

    def _saw(self, document: dict[str, Any]) -> None:
        task_id = document["task_id"]
        if document["status"] in ENDED and task_id in self.promised:
            # Once Redis has forgotten a task that runs again, SQL shows the end that it had before.
            if document["finished_at"] <= self._ended_at.get(task_id, ""):
                return
            self._ended_at[task_id] = document["finished_at"]
            del self.promised[task_id]
            self._ended[task_id].set()
            self._outcomes[task_id] = document["status"]

    async def _end_of(self, task_id: str) -> str | None:
        """Wait until anybody has seen the task's end."""
        if task_id in self.promised:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended[task_id].wait(), PATIENCE_SECONDS)
        if task_id in self.promised:
            return None
        return self._outcomes.get(task_id)


class Answer:
    """What came back; without a code, nothing did."""

    def __init__(self, response: httpx.Response | None) -> None:
        self.code = response.status_code if response is not None else None
        self.text = response.text if response is not None else ""
        self.body: dict[str, Any] = {}
        if response is not None and "json" in response.headers.get("content-type", ""):
            self.body = response.json()


def _kept(document: dict[str, Any]) -> dict[str, Any]:
    """What of a document is evidence."""
    kept: dict[str, Any] = {name: document[name] for name in KEPT if name in document}
    if "error" in document:
        kept["error"] = document["error"]["type"].rpartition("/")[2]
    return kept


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield
