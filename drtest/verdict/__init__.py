"""What it means: pure judgement of recorded evidence."""
