"""What somebody can put in place of a file, each a function of its path and of a file with a secret."""

import os
import stat
from pathlib import Path

import pytest

SECRET = b"a key of the service's"


def symbolic_link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def dangling_link(path: Path, secret: Path) -> None:
    path.symlink_to(secret.with_name("nothing"))


def hard_link(path: Path, secret: Path) -> None:
    path.hardlink_to(secret)


def fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path, secret: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o666)


def folder(path: Path, secret: Path) -> None:
    path.mkdir()


def device(path: Path, secret: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")


HOSTILE = [symbolic_link, dangling_link, hard_link, fifo, unix_socket, folder, device]
