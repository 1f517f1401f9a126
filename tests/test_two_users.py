"""Runs the tests that fork in a process without the threads of other tests, which a child would wait for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other users")
def test_what_one_user_can_do_to_the_others_files() -> None:
    tests = Path(__file__).with_name("two_users.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tests)]
    ran = subprocess.run(command, cwd=tests.parents[1], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
