"""Tests of drtest.guest."""
