"""Action: the base of the typed contracts, and the catalogue of those that a process knows.

An action says what a caller may ask for, and in which queue it waits; the work itself is registered on the worker side
with `@handles`. A module of actions is named in the configuration and imported once; nothing is found by magic.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, Literal, Self, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.domain.envelope import Callback
from app.domain.errors import ConfigurationError

Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:/-]+$")]


@dataclass(frozen=True)
class DatasetId:
    """Marks an integer field that names an entry of the configured `datasets`.

    `id: Annotated[int, DatasetId()]` accepts exactly the configured ids, and the OpenAPI document lists them.
    """


CallbackEvent = Literal["started", "completed"]
ENDS: Final[tuple[CallbackEvent, ...]] = ("completed",)
"""What a webhook is sent for when nothing else is asked for."""


class Action(BaseModel):
    """A typed contract: subclass it with a name and a queue, and give it the fields that the work needs.

        class GenerateReport(Action, name="generate_report", queue="report_gen"):
            id: int = Field(ge=1)

    Validation is strict ("1024" is no integer) and unknown fields are refused. The fields declared here, in the base,
    are the envelope: every action accepts them, and the handler does not see to them.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "if": {"required": ["callback_events"]},
            "then": {"required": ["callback_url"], "properties": {"callback_url": {"type": "string"}}},
        },
    )

    action_name: ClassVar[str]
    queue_name: ClassVar[str]

    labels: list[Label] = Field(
        default_factory=list, max_length=16, json_schema_extra={"uniqueItems": True}, description="To find it again."
    )

    timeout_seconds: float | None = Field(default=None, gt=0, le=604_800, description="Of one attempt.")
    max_attempts: int | None = Field(default=None, ge=1, le=100, description="Failed ones; the setting's when omitted.")
    delay_seconds: float | None = Field(default=None, ge=0, le=31_536_000, description="It does not begin before.")

    callback_url: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        json_schema_extra={"format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"},
        description="Where the task's webhooks go: http or https, to a public address.",
    )
    callback_events: list[CallbackEvent] = Field(
        default_factory=lambda: list(ENDS),  # a default that can be changed would be copied deep, for each order
        min_length=1,
        json_schema_extra={"default": list(ENDS), "uniqueItems": True},
        description="When one is sent: `completed` is any end, be it COMPLETED, FAILED or CANCELLED.",
    )

    @field_validator("callback_events")
    @classmethod
    def _each_once(cls, events: list[str]) -> list[str]:
        if len(set(events)) != len(events):
            raise ValueError("the events must differ from each other")
        return events

    @model_validator(mode="after")
    def _events_need_a_receiver(self) -> Self:
        if self.callback_url is None and "callback_events" in self.model_fields_set:
            raise PydanticCustomError("no_receiver", "callback_events needs a callback_url")
        return self

    @field_validator("labels")
    @classmethod
    def _unique(cls, labels: list[str]) -> list[str]:
        if len(set(labels)) != len(labels):
            raise ValueError("the labels must differ from each other")
        return labels

    def __init_subclass__(cls, *, name: str = "", queue: str = "", **kwargs: Any) -> None:
        """Take the keywords of the class statement; a subclass without them keeps its base's."""
        super().__init_subclass__(**kwargs)
        if bool(name) != bool(queue):
            raise TypeError(f"{cls.__name__}: an action needs both a name and a queue")
        if name:
            cls.action_name, cls.queue_name = name, queue

    @property
    def callback(self) -> Callback | None:
        """Where its webhooks go, and which; None without a `callback_url`."""
        return Callback(url=self.callback_url, events=tuple(self.callback_events)) if self.callback_url else None

    @property
    def params(self) -> dict[str, Any]:
        """The action's own fields, as JSON values: what the message carries and the handler gets."""
        return self.model_dump(mode="json", exclude={"action", *Action.model_fields})


class ActionCatalogue:
    """The actions that this process knows, by name."""

    def __init__(self, actions: Iterable[type[Action]], *, dataset_ids: Collection[int]) -> None:
        """Take the actions as their authors wrote them, and fit them to the configuration.

        Args:
            actions: Subclasses of Action with a name each.
            dataset_ids: The ids that a field marked DatasetId accepts.

        Raises:
            ConfigurationError: Two actions share a name, there is none, or one needs datasets and none is configured.
        """
        self._actions: dict[str, type[Action]] = {}
        for action in actions:
            if action.action_name in self._actions:
                raise ConfigurationError(f"actions: two of them are named {action.action_name!r}")
            self._actions[action.action_name] = _fitted(action, dataset_ids)
        if not self._actions:
            raise ConfigurationError("actions: at least one module of actions is needed")

    @property
    def names(self) -> list[str]:
        """The names, in the order of the configuration."""
        return list(self._actions)

    @property
    def queues(self) -> list[str]:
        """The queues that these actions wait in, each once."""
        return list(dict.fromkeys(action.queue_name for action in self._actions.values()))

    def __iter__(self) -> Iterator[type[Action]]:
        return iter(self._actions.values())

    def get(self, name: str) -> type[Action] | None:
        """Return the action of that name, fitted to the configuration."""
        return self._actions.get(name)

    @cached_property
    def adapter(self) -> TypeAdapter[Action]:
        """The discriminated union of all actions: validates a submission, and is its schema in OpenAPI."""
        union: Any = Union[tuple(self._actions.values())]  # noqa: UP007  # built at run time
        discriminated: Any = Annotated[union, Field(discriminator="action")]
        return TypeAdapter(discriminated)


def actions_of(module: Mapping[str, Any], module_name: str) -> list[type[Action]]:
    """Return the actions that a module defines (not those it merely imports)."""
    return [
        value
        for value in module.values()
        if isinstance(value, type)
        and issubclass(value, Action)
        and value.__module__ == module_name
        and hasattr(value, "action_name")
    ]


def _fitted(action: type[Action], dataset_ids: Collection[int]) -> type[Action]:
    """Give an action its discriminator, and each field marked DatasetId the enum of the configured ids."""
    fields: dict[str, Any] = {"action": (Literal[action.action_name], Field(description="Which work is asked for."))}
    for name, field in action.model_fields.items():
        if any(isinstance(mark, DatasetId) for mark in field.metadata):
            if not dataset_ids:
                raise ConfigurationError(f"datasets: {action.action_name} needs at least one")
            description = field.description or "The id of a configured dataset."
            fields[name] = (Literal[tuple(sorted(dataset_ids))], Field(description=description))
    return create_model(
        action.__name__, __base__=action, __module__=action.__module__, __doc__=action.__doc__, **fields
    )
