"""Queries, read strictly: an unknown parameter, or one that cannot be read, is named in the refusal."""

from collections.abc import Callable, Collection
from typing import Final, TypeVar

from fastapi import Request

from app.domain.errors import ValidationFailed
from app.domain.problem import FieldError

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200

Value = TypeVar("Value")


class Query:
    """The query's parameters, read strictly; what is wrong is gathered, so that an answer names all of it."""

    def __init__(self, request: Request, known: Collection[str]) -> None:
        self._parameters = request.query_params
        self._wrong = [
            FieldError(parameter=name, detail="Unknown parameter.")
            for name in dict.fromkeys(self._parameters)
            if name not in known
        ]

    def many(self, name: str, read: Callable[[str], Value]) -> list[Value]:
        """Return the values of a parameter that may be repeated."""
        return [value for text in self._parameters.getlist(name) if (value := self._read(name, read, text)) is not None]

    def one(self, name: str, read: Callable[[str], Value], default: Value) -> Value:
        """Return the value of a parameter that may stand once."""
        texts = self._parameters.getlist(name)
        if len(texts) > 1:
            self._wrong.append(FieldError(parameter=name, detail="It may stand once only."))
        if not texts:
            return default
        value = self._read(name, read, texts[0])
        return default if value is None else value

    def _read(self, name: str, read: Callable[[str], Value], text: str) -> Value | None:
        try:
            return read(_without_nul(text))
        except ValueError as error:
            self._wrong.append(FieldError(parameter=name, detail=_sentence(error)))
            return None

    def require_nothing_wrong(self) -> None:
        """Check that everything could be read.

        Raises:
            ValidationFailed: Something could not; all of it is named.
        """
        if self._wrong:
            raise ValidationFailed("The query is not valid.", errors=self._wrong)


def _without_nul(text: str) -> str:
    """Return a text as it is; PostgreSQL could not even be asked for one with a NUL."""
    if "\0" in text:
        raise ValueError("the character NUL stands in no value")
    return text


def page_limit(text: str) -> int:
    """Read how long a page is to be."""
    limit = int(text) if text.isdecimal() and text.isascii() and len(text) < 6 else 0  # digits enough
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"a whole number from 1 to {MAX_LIMIT} is expected")
    return limit


def _sentence(error: ValueError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + "."
