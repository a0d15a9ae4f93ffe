"""Errors a user can act on: one sentence, naming the place in the model and the way out."""

from __future__ import annotations


class ModelError(Exception):
    """A model file, or something in it, that cannot be read or is not supported.

    The message is one sentence for the user: what was wrong, where (file, node, operator), and
    what to do. The command line prints it and exits with status 2; no traceback is shown.
    """


class UnsupportedModel(ModelError):
    """A well-formed model that uses something `refine` has no meaning for."""
