"""What a run leaves: its folder, its evidence, its results."""
