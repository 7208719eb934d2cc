"""`python -m hive_sandbox.fake` is lightningd."""

import os
import sys

from .startup import main

code = main(sys.argv[1:])
sys.stdout.flush()
# Not sys.exit: it would wait for what plugins and clients still hold open.
os._exit(code)
