"""The command ``esl-record``. gevent patches the standard library before anything else is imported."""

import os

# More threads than one make NumPy slower on blocks of this size, and take cores from the switch beside it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from gevent import monkey

monkey.patch_all()

from esl_record.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
