"""The files of the ``linux`` image: a Debian 12 that boots by itself and asks its SMBIOS tables who it is."""
