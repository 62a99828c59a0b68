"""Configurations of the language model: defaults, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from ithaca.workloads.lm.config import DataConfig, LMConfig


def test_defaults_make_a_model() -> None:
    config = LMConfig()
    assert config.kv_heads == config.num_heads
    assert config.head_dim * config.num_heads == config.dim
    assert config.data.source == "python"
    assert config.experts is None


@pytest.mark.parametrize(("dim", "hidden"), [(96, 256), (128, 352), (384, 1024), (4096, 10944)])
def test_hidden_is_eight_thirds_rounded_up(dim: int, hidden: int) -> None:
    assert LMConfig(dim=dim).hidden_units == hidden
    assert LMConfig(dim=dim, hidden=7).hidden_units == 7


def test_a_folder_is_a_source_and_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    data = DataConfig.model_validate({"folder": "texts"})
    assert data.source == "folder"
    assert data.folder == tmp_path / "texts"
    monkeypatch.chdir("/")
    assert DataConfig.model_validate(data.model_dump(mode="json")) == data


def test_a_dump_reads_back() -> None:
    config = LMConfig.model_validate({"experts": {"count": 4}, "num_kv_heads": 2, "tied": True})
    assert LMConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("given", "where", "message"),
    [
        ({"dim": 100, "num_heads": 3}, (), "a multiple of 6 .2 x num_heads., such as 96 or 102"),
        ({"dim": 12, "num_heads": 4}, (), "heads of even width; dim must be a multiple of 8"),
        ({"dim": 4, "num_heads": 8}, (), "a multiple of 16 .2 x num_heads., such as 16"),
        ({"num_heads": 4, "num_kv_heads": 3}, (), "num_kv_heads must be one of 1, 2, 4"),
        ({"num_kv_heads": 8}, (), "4 query heads cannot share 8 key and value heads"),
        ({"dim": 0}, ("dim",), "greater than or equal to 2"),
        ({"dim": 10**9}, ("dim",), "less than or equal to 65536"),
        ({"num_layers": 0}, ("num_layers",), "greater than or equal to 1"),
        ({"context": -1}, ("context",), "greater than or equal to 1"),
        ({"batch_size": "many"}, ("batch_size",), "valid integer"),
        ({"dropout": 1.0}, ("dropout",), "less than 1"),
        ({"dropout": float("nan")}, ("dropout",), "finite number"),
        ({"rope_base": float("inf")}, ("rope_base",), "finite number"),
        ({"layers": 3}, ("layers",), "Extra inputs are not permitted"),
        ({"experts": {"count": 2, "top_k": 3}}, ("experts",), r"set top_k to 1\.\.2"),
        ({"experts": {}}, ("experts", "count"), "Field required"),
        ({"experts": {"count": 4, "balance": -1}}, ("experts", "balance"), "greater than or equal"),
        ({"data": {"source": "web"}}, ("data", "source"), "'python' or 'folder'"),
        ({"data": {"source": "folder"}}, ("data",), "no folder is given; add `folder: <path>`"),
        ({"data": {"source": "python", "folder": "x"}}, ("data",), "leave out one of the two"),
        ({"data": {"validation_fraction": 1}}, ("data", "validation_fraction"), "less than 1"),
        ({"data": {"max_bytes": 0}}, ("data", "max_bytes"), "greater than or equal to 1"),
        ({"sample": {"temperature": -0.1}}, ("sample", "temperature"), "greater than or equal"),
    ],
)
def test_what_cannot_be_is_refused(
    given: dict[str, Any], where: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        LMConfig.model_validate(given)
    assert [error["loc"] for error in caught.value.errors()] == [where]


def described(model: type[BaseModel]) -> list[str]:
    """Fields without a description, with those of the models inside."""
    missing = [name for name, field in model.model_fields.items() if not field.description]
    for field in model.model_fields.values():
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                missing += described(inner)
    return missing


def test_every_field_is_described() -> None:
    assert described(LMConfig) == []
