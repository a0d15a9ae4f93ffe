"""The command line: options in, one exit code out."""

from __future__ import annotations


def main() -> None:
    """What installations call that were made before there was `refine.cli.entry`."""
    from refine.cli import entry

    entry.main()
