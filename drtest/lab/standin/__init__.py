"""The Windows stand-in's inside: what runs in its guest, from the boot to the answers of drtest's probes.

It is Linux from RAM over a real NTFS volume. Python 3.11, `drtest.lab.winrm` and what that needs, and ntfs-3g's tools
are all that there is.
"""
