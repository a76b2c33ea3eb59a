"""WS-Management for the lab's Windows stand-in: real HTTPS, NTLM and shells, and drtest's own probes behind them.

It runs in tests on loopback and inside a guest alike: Python 3.11, pyspnego and cryptography are all that it needs.
"""
