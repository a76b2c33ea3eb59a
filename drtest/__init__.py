"""drtest proves that EBS backups can be restored."""

__version__ = "0.1.0"
