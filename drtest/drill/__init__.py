"""The procedure: prepare, load and capture, restore, examine, clean."""
