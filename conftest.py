"""Fixtures of all tests. The plugin comes by its entry point and is never registered here a second time."""

pytest_plugins = ["pytester"]
