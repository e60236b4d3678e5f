"""Every plan module: importing this fills `RULES`."""

from . import creation as creation
from . import layout as layout
