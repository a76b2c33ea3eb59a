"""An EC2 on this machine: real QEMU machines and real disks behind an EC2-compatible endpoint."""
