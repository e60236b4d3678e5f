"""The version, stated once: hatchling reads it from here."""

VERSION = "0.1.0"
