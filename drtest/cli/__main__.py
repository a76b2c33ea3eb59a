"""`python -m drtest.cli`: the same as `drtest`."""

import sys

from drtest.cli import main

sys.exit(main())
