# -*- test-case-name: tests.machines.test_storage_unpack -*-
"""
Unpacks one disk image: a program of its own, run as C{python -I -S unpack_launch.py}.

It works for L{qvd.hkd.storage.unpacks}; what it does is in L{qvd.hkd.storage.unpacking}. A storage that hangs, hangs
this process, which can be given up.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Last, so that nothing beside our package can stand in for the standard library.
    sys.path.append(str(Path(__file__).resolve().parents[3]))

    from qvd.hkd.storage.unpacking import main

    main()
