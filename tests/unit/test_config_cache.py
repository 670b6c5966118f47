"""The configuration as the triggerer asks for it: for many topics in the same second."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from airflow_lag_provider import config_cache

MIRRORS = """
mirrors:
  oasis:
    bootstrap_servers: [b-1:9092]
    group: g
    topics: {orders: , clicks: }
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mirrors.yaml"
    path.write_text(MIRRORS)
    return str(path)


def asked(file: str, *mirrors: str) -> list[Any]:
    async def story() -> list[Any]:
        return await asyncio.gather(*(config_cache.recent_topics(file, one) for one in mirrors))

    return asyncio.run(story())


def test_one_look_at_the_file_serves_all_who_ask_at_once(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred topics get the same answer from one look."""
    looks = []

    def load(path: str) -> Any:
        looks.append(path)
        return real(path)

    real = config_cache.load
    monkeypatch.setattr(config_cache, "load", load)
    assert asked(file, *["oasis"] * 100) == [{"orders", "clicks"}] * 100
    assert looks == [file]


def test_mirrors_of_one_file_keep_their_topics_apart(file: str) -> None:
    """A mirror that the file doesn't have gets nothing, whatever another one got."""
    assert asked(file, "oasis", "unknown") == [{"orders", "clicks"}, None]


def test_a_change_is_seen_some_seconds_later(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is good for a while, then the file is looked at again."""
    monkeypatch.setattr(config_cache, "_RECENT_SECONDS", 0.05)

    def rewrite() -> None:
        Path(file).write_text(MIRRORS.replace("clicks", "more"))

    async def story() -> list[Any]:
        answers = [await config_cache.recent_topics(file, "oasis")]
        rewrite()
        answers.append(await config_cache.recent_topics(file, "oasis"))
        await asyncio.sleep(0.1)
        answers.append(await config_cache.recent_topics(file, "oasis"))
        return answers

    assert asyncio.run(story()) == [{"orders", "clicks"}] * 2 + [{"orders", "more"}]
