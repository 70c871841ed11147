"""What all tests share: how an oracle library is imported."""

import importlib
import os

import pytest


def oracle(name: str):
    """Import an independent implementation to test against.

    Without it the test module is skipped by name; in CI a missing oracle is a failure, since a
    test that quietly compares with nothing proves nothing. Tests that call this are marked parity.
    """
    if os.environ.get("CI"):
        return importlib.import_module(name)
    return pytest.importorskip(name)
