"""The contracts of the built-in jobs, one file each; users bring a package of their own.

The work itself stands under the same file name in `workers/handlers`; nothing here imports it.
"""

from collections.abc import Collection, Iterable
from importlib import import_module

from app.domain.action import Action, ActionCatalogue, actions_of
from app.domain.errors import ConfigurationError


def load_catalogue(modules: Iterable[str], *, dataset_ids: Collection[int]) -> ActionCatalogue:
    """Import the configured modules of actions.

    Args:
        modules: Import paths, as in the setting `actions`.
        dataset_ids: The keys of the setting `datasets`.

    Raises:
        ConfigurationError: A module cannot be imported, or defines no action.
    """
    found: list[type[Action]] = []
    for name in modules:
        try:
            module = import_module(name)
        except ImportError as error:
            raise ConfigurationError(f"actions: {name} cannot be imported ({error})") from error
        actions = actions_of(vars(module), name)
        if not actions:
            raise ConfigurationError(f"actions: {name} defines none")
        found += actions
    return ActionCatalogue(found, dataset_ids=dataset_ids)
