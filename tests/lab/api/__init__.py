"""Tests of the API of the lab, by plain boto3, without machines."""
