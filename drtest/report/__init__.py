"""For people: the matrix, the consistency report, pytest-html's page."""
