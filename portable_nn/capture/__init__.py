"""Capture and replay: a step recorded once, rewritten, planned, and run again without Python between its launches."""

from .captured import Captured as Captured
from .captured import capture as capture
