"""`python -m tinct`: the same as `tinct`."""

import sys

from tinct.cli import main

sys.exit(main())
