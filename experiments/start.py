"""Run a module of the checkout: ``python experiments/start.py MODULE [arguments]``.

``python -m`` puts the working directory first on the search path, where a file of the user's
(random.py) or a folder (experiments/) would take the place of Python's module or of ours.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 as light as can be

if __name__ == "__main__":
    # ours first, and not this folder, whose modules are no modules of the top level
    sys.path[:] = [os.path.dirname(_HERE), *(p for p in sys.path if p != _HERE)]  # noqa: PTH120
    import runpy

    from experiments.machine import print_what_can_be_printed

    print_what_can_be_printed()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
