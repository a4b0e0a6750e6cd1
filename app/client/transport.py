"""One request and its answer: sent, repeated while that is safe, and every failure made one of `errors`."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from app.client.errors import ClientError, UnexpectedAnswer, error_of_answer, error_of_connection
from app.client.retrying import OnRetry, Retries

Model = TypeVar("Model", bound=BaseModel)


class Transport:
    """Sends requests over one httpx client, which its owner opens and closes."""

    def __init__(
        self, http: httpx.AsyncClient, *, base_url: str, patience: timedelta, on_retry: OnRetry | None
    ) -> None:
        """Take what is needed to send.

        Args:
            http: Carries base URL, token and timeouts.
            base_url: The same URL, for sentences.
            patience: How long one call may go on trying.
            on_retry: Told of each failure that is tried again.
        """
        self._http = http
        self._base_url = base_url
        self._patience = patience
        self._on_retry = on_retry

    async def send(
        self,
        method: str,
        path: str,
        *,
        is_idempotent: bool,
        retries: bool = True,
        headers: Mapping[str, str] | None = None,
        params: Sequence[tuple[str, str]] = (),
        content: bytes | None = None,
    ) -> httpx.Response:
        """Send a request until it is answered with 2xx or 304, or fails for good. The body has been read.

        Args:
            is_idempotent: Whether a second arrival changes nothing.
            retries: False for one single try, by callers who keep their own time.
            path: Relative to the base URL, without a leading slash, so that a service behind a prefix works as well.

        Raises:
            ServiceProblem, Unreachable, UnexpectedAnswer: The last try's failure.
        """
        budget = Retries(self._patience)
        request = {"headers": dict(headers or {}), "params": list(params), "content": content}
        while True:
            try:
                return await self._once(method, path, request)
            except ClientError as error:
                delay = budget.delay_after(error, is_idempotent=is_idempotent) if retries else None
                if delay is None:
                    raise
                failure = error
            await self.pause(failure, delay)

    async def pause(self, failure: ClientError, seconds: float) -> None:
        """Tell the client's owner of a failure that will be tried again, and wait so long."""
        if self._on_retry:
            self._on_retry(failure, seconds)
        await asyncio.sleep(seconds)

    async def _once(self, method: str, path: str, request: Mapping[str, object]) -> httpx.Response:
        async with self._opened(method, path, request) as response:
            await response.aread()
            return response

    @asynccontextmanager
    async def stream(self, path: str, *, headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """GET with the body left to be read by the caller: one try. Failures while reading are translated too.

        Raises:
            ServiceProblem, Unreachable, UnexpectedAnswer: As for `send`.
        """
        async with self._opened("GET", path, {"headers": dict(headers)}) as response:
            yield response

    @asynccontextmanager
    async def _opened(self, method: str, path: str, request: Mapping[str, object]) -> AsyncIterator[httpx.Response]:
        options = {key: value for key, value in request.items() if value}
        try:
            async with self._http.stream(method, path, **options) as response:  # type: ignore[arg-type]
                # No redirect is part of the contract, and the token must not follow one: 3xx is a failure as well.
                if not response.is_success and response.status_code != httpx.codes.NOT_MODIFIED:
                    await response.aread()
                    raise error_of_answer(response)
                yield response
        except httpx.RequestError as error:
            raise error_of_connection(error, self._base_url) from error


def read_as(model: type[Model], response: httpx.Response) -> Model:
    """Read a 2xx answer's body.

    Raises:
        UnexpectedAnswer: It is not what the contract says.
    """
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise UnexpectedAnswer(f"{response.request.url.path}: {where} is not as the contract says") from error
