"""A whole drill without machines: the lab's EC2 API, and guests in memory that do as they are told."""
