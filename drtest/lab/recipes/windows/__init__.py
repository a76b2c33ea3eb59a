"""The files of the ``windows`` images: a small Linux in RAM that stands in for Windows, beside an NTFS volume."""
