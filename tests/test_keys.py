"""Keys: made once, kept for nobody else."""

import stat
from pathlib import Path

import pytest

from esl_record import keys
from esl_record.config import Settings
from esl_record.errors import ConfigError
from esl_record.service import Service


@pytest.mark.parametrize(
    ("make", "name"),
    [(keys.link_key, "link.key"), (keys.webhook_secret, "webhook.secret"), (keys.call_key, "calls.key")],
)
def test_a_key_is_made_once_and_is_for_its_user_alone(tmp_path: Path, make: object, name: str) -> None:
    assert callable(make)
    first = make(tmp_path)
    assert make(tmp_path) == first
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / "other").mkdir()
    assert make(tmp_path / "other") != first


def test_a_key_cut_off_by_a_crash_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "link.key").touch()
    (tmp_path / ".link.key.part").write_text("ab")
    assert len(keys.link_key(tmp_path)) == 32
    assert keys.link_key(tmp_path) == keys.link_key(tmp_path)


def test_a_key_of_the_users_own_is_taken(tmp_path: Path) -> None:
    (tmp_path / "link.key").write_text(f"{'00ff' * 16}\n")
    assert keys.link_key(tmp_path) == b"\x00\xff" * 16


def test_a_made_webhook_secret_is_one_the_settings_would_take(tmp_path: Path) -> None:
    secret = keys.webhook_secret(tmp_path)
    assert Settings(webhook_secrets=[secret]).webhook_secrets == [secret]


@pytest.mark.parametrize(
    ("name", "content"),
    [("link.key", "no hex"), ("link.key", "00" * 31), ("webhook.secret", "whsec_c2hvcnQ="), ("calls.key", "c2hvcnQ=")],
)
def test_a_key_that_is_none_is_named_at_the_start(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / name).chmod(0o600)
    service = Service(Settings(data_dir=tmp_path, listen=("127.0.0.1", 0), http=("127.0.0.1", 0), capacity=10))
    with pytest.raises(ConfigError, match=f"{name}: .*without the file a new one is made"):
        service.start()
