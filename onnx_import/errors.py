"""Errors a user can act on: one sentence, naming the place in the model and the way out."""

from __future__ import annotations


class ModelError(Exception):
    """A model file, or something in it, that cannot be read or is not supported.

    The message is one sentence for the user: what was wrong, where (file, node, operator), and
    what to do. The command line prints it and exits with status 2; no traceback is shown.
    """


class UnsupportedModel(ModelError):
    """A well-formed model that uses something `refine` has no meaning for."""


def shorten(error: BaseException | str, limit: int = 160) -> str:
    """The first line of another library's message, without its tag, cut at `limit` characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    if first.startswith("[") and "] " in first:
        first = first.split("] ", 1)[1]
    first = " ".join(first.split()).rstrip(".:;,")
    return first if len(first) <= limit else first[: limit - 1].rstrip() + "…"
