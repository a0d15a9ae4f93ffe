"""Tests bound quickly unless they say otherwise: improving bounds takes the whole budget."""

from __future__ import annotations

import os

os.environ.setdefault("REFINE_BUDGET", "0")
os.environ.setdefault("REFINE_WORKERS", "1")
