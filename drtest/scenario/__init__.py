"""What to prove: scenario files and the plans that follow from them."""
