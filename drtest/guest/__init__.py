"""Inside a server: transports, probes and the canary."""
