"""What goes into the lab's guest images: one folder an image, read as package data."""
