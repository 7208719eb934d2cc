#!/usr/bin/python3
"""The monolith of the image: what stands for it is mounted, as the field's build variant mounts its sources."""

import sys
from importlib import import_module

sys.path.insert(0, "/opt/cl-hive/src")
sys.dont_write_bytecode = True
import_module("hive_fixture.adopters").Monolith().run()
