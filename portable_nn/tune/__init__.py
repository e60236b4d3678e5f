"""The search for the sizes that are fastest on a device: `portable-nn tune`."""

from .search import Search as Search
from .trial import Tried as Tried

__all__ = ["Search", "Tried"]
