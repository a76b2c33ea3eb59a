"""The programs that run in guests: Python 3.6, standard library only, sent whole by `drtest.guest.linux`."""
