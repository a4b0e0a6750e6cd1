"""Which handler does which action's work: `@handles` marks it, and the engine looks it up.

A handler module must be cheap to import: the engine imports it, and so does every process that it starts. Heavy
libraries are imported inside the handler, or in a module that the handler imports when it runs.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from app.domain.action import Action
from app.domain.errors import ConfigurationError
from workers.job import BlockingJob, Job
from workers.outcome import Result

AsyncHandler = Callable[[Job, Any], Awaitable[Result | None]]
BlockingHandler = Callable[[BlockingJob, Any], Result | None]
HandlerFunction = TypeVar("HandlerFunction", bound=AsyncHandler | BlockingHandler)

_MARK = "__longhaul_action__"


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered handler. `blocking` ones (`def`) run in a process of their own."""

    action: type[Action]
    function: AsyncHandler | BlockingHandler
    module: str
    blocking: bool


def handles(action: type[Action]) -> Callable[[HandlerFunction], HandlerFunction]:
    """Mark a function as the work of an action: `async def` runs on the engine's loop, `def` in a child process.

    Raises:
        TypeError: This is no action with a name.
    """
    if not (isinstance(action, type) and issubclass(action, Action) and hasattr(action, "action_name")):
        raise TypeError("@handles takes an action: @handles(GenerateReport)")

    def mark(function: HandlerFunction) -> HandlerFunction:
        setattr(function, _MARK, action)
        return function

    return mark


class Registry:
    """The handlers of this process, by the name of their action."""

    def __init__(self, modules: Iterable[str]) -> None:
        """Import the configured modules of handlers.

        Args:
            modules: Import paths, as in the setting `handlers`.

        Raises:
            ConfigurationError: A module cannot be imported or has no handler, or two handle one action.
        """
        self.handlers: dict[str, Handler] = {}
        for name in modules:
            try:
                module = import_module(name)
            except Exception as error:  # the module is its author's: anything may be wrong with it
                reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
                raise ConfigurationError(f"handlers: {name} cannot be imported ({reason})") from error
            found = list(_handlers_of(module))
            if not found:
                raise ConfigurationError(f"handlers: {name} marks no function with @handles")
            for handler in found:
                action_name = handler.action.action_name
                if action_name in self.handlers:
                    raise ConfigurationError(f"handlers: two of them handle {action_name!r}")
                self.handlers[action_name] = handler

    def get(self, action_name: str) -> Handler | None:
        """Return the handler of that action."""
        return self.handlers.get(action_name)


def _handlers_of(module: ModuleType) -> Iterable[Handler]:
    for value in vars(module).values():
        action = getattr(value, _MARK, None)
        if action is not None and value.__module__ == module.__name__:
            yield Handler(action, value, module.__name__, blocking=not inspect.iscoroutinefunction(value))
