"""What the exit codes of `relib` mean; the help of every command is made from this."""

from __future__ import annotations

__all__ = ["FAILED", "INTERRUPTED", "OK", "USAGE"]

OK = 0
"""All went well."""

FAILED = 1
"""The build failed, or something else is wrong that was found."""

USAGE = 2
"""Wrong usage: an unknown option, setting, source or name."""

INTERRUPTED = 130
"""Ended by Ctrl-C; what a shell makes of SIGINT."""
