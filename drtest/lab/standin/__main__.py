"""``python3 -m drtest.lab.standin``: the guest's first process."""

from drtest.lab.standin.main import main

main()
